#include "webgpu/carry.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "webgpu/shader.h"

namespace rwkvnative::webgpu {
namespace {

constexpr double kLinkBytes = 50e3;   // a microsecond: PCIe 5 x16. Over a slower link more threads than need be carry
constexpr uint64_t kRoundBytes = 64;  // of a thread: kernels/carry.wgsl

size_t find(const std::string& source, std::string_view text, size_t from) {
  const size_t at = source.find(text, from);
  if (at == std::string::npos) throw DeviceError(message("[webgpu] a kernel to carry weights has no ", text));
  return at;
}

// What an argument of @workgroup_size comes to: a number, or the name of one of the text's constants.
uint32_t count_threads(const std::string& source, const std::string& argument) {
  if (argument.find_first_not_of("0123456789") == std::string::npos) return static_cast<uint32_t>(std::stoul(argument));
  const std::string constant = message("const ", argument, " = ");
  return static_cast<uint32_t>(std::stoul(source.substr(find(source, std::string_view(constant), 0) + constant.size(), 10)));
}

}  // namespace

uint32_t carrying_layers(uint64_t workgroups, uint32_t carriers) {
  return static_cast<uint32_t>((carriers + workgroups - 1) / std::max<uint64_t>(1, workgroups));
}

CarryingText carrying(std::string source, uint32_t group) {
  constexpr std::string_view kSize = "@workgroup_size(", kMain = "fn main(", kIndex = "@builtin(local_invocation_index) ";
  const size_t size = find(source, kSize, 0) + kSize.size();
  const std::string threads = source.substr(size, find(source, ")", size) - size);
  const size_t entry = find(source, kMain, size) + kMain.size(), body = find(source, ") {", entry);
  const std::string inputs = source.substr(entry, body - entry);
  // The carriers' workgroups are more of the grid along z.
  for (const std::string_view own : {"workgroup.z", "workgroup_id.z", "num_workgroups"})
    if (source.find(own) != std::string::npos) throw DeviceError(message("[webgpu] a kernel to carry weights has a use for ", own));
  find(inputs, "@builtin(workgroup_id) workgroup:", 0);

  std::string more = "@builtin(num_workgroups) carrying_grid: vec3<u32>, ", thread = "carrying_thread";
  if (const size_t index = inputs.find(kIndex); index != std::string::npos) {
    const size_t name = index + kIndex.size();
    thread = inputs.substr(name, inputs.find(':', name) - name);
  } else {
    more += message(kIndex, thread, ": u32, ");
  }
  source.insert(body + 3, message("\n  if (workgroup.z + 1u < carrying_grid.z) {\n    carry(workgroup, carrying_grid, ", thread,
                                  ");\n    return;\n  }"));
  source.insert(entry, more);
  const uint32_t count = count_threads(source, threads);
  source += instantiate("carry", {{"GROUP", message(group)}, {"THREADS", message(count, "u")}});
  return {std::move(source), count};
}

uint32_t carrying_threads(double bytes, double time, const Tuning& tuning) {
  const double part = bytes / kLinkBytes / time;  // of the time that the link is to be busy
  const auto steps = static_cast<uint32_t>(std::ceil(std::min(1.0, part * tuning.carry_spare / 100) * tuning.carry_threads / kCarryStep));
  return std::max(1u, steps) * kCarryStep;
}

std::vector<Share> carried_shares(const std::vector<Carrier>& carriers, uint64_t bytes, uint64_t limit, const Tuning& tuning) {
  // Up to 1, kernels copy for their weight's part of that; up to 2, the lighter ones take what is left of their times; then all go on
  // alike.
  const auto part_of = [](double weight, double level) {
    return level <= 1 ? weight * level : level <= 2 ? weight + (1 - weight) * (level - 1) : level - 1;
  };
  const auto share = [&](const Carrier& carrier, double level) -> Share {
    const double time = carrier.time, part = part_of(carrier.weight, level);
    const double wanted = std::min(1e15, std::max(0.0, part * time - tuning.carry_start / 10.0) * kLinkBytes);
    if (wanted == 0) return {};
    const uint32_t threads = carrying_threads(wanted, time, tuning);
    const uint64_t round = uint64_t{threads} * kRoundBytes;
    const uint64_t rounds = (static_cast<uint64_t>(wanted) + round - 1) / round;
    return {std::min(rounds, limit / round) * round, threads};
  };
  const auto sum = [&](double level) {
    uint64_t all = 0;
    for (const Carrier& carrier : carriers) all += share(carrier, level).bytes;
    return all;
  };
  double low = 0, high = 1;
  while (sum(high) < bytes) {
    if (high > 1e6) return {};
    high *= 2;
  }
  for (int i = 0; i < 40; ++i) (sum((low + high) / 2) < bytes ? low : high) = (low + high) / 2;
  std::vector<Share> shares;
  for (const Carrier& carrier : carriers) {
    shares.push_back(share(carrier, high));
    shares.back().bytes = std::min(shares.back().bytes, bytes);
    bytes -= shares.back().bytes;
  }
  return shares;
}

double estimated_microseconds(const Cost& cost, uint32_t rows, uint32_t sequences) {
  constexpr double kDispatch = 4, kElementwise = 0.03;  // of any; of a row, in a kernel that counts nothing
  constexpr double kBytes = 3e6;                        // a microsecond
  const uint64_t bytes = cost.bytes(rows, sequences), operations = cost.row_operations * rows;
  if (bytes == 0 && operations == 0) return kDispatch + kElementwise * rows;
  const double rate = cost.arithmetic == Arithmetic::F16 ? 1e8 : cost.arithmetic == Arithmetic::Int8 ? 5e7 : 1e7;
  return kDispatch + std::max(static_cast<double>(bytes) / kBytes, static_cast<double>(operations) / rate);
}

}  // namespace rwkvnative::webgpu
