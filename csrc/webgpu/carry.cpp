#include "webgpu/carry.h"

#include <algorithm>

#include "core/error.h"
#include "webgpu/shader.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kMostCarriers = 64;  // workgroups, if they are small: see kernels/carry.wgsl

size_t find(const std::string& source, std::string_view text, size_t from) {
  const size_t at = source.find(text, from);
  if (at == std::string::npos) throw DeviceError(message("[webgpu] a kernel to carry weights has no ", text));
  return at;
}

}  // namespace

uint32_t carrying_layers(uint64_t workgroups) {
  return static_cast<uint32_t>((kMostCarriers + workgroups - 1) / std::max<uint64_t>(1, workgroups));
}

std::string carrying(std::string source, uint32_t group) {
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
  return source + instantiate("carry", {{"GROUP", message(group)}, {"THREADS", message("u32(", threads, ")")}});
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
