#include "webgpu/carry_shares.h"

#include <algorithm>
#include <cmath>

namespace rwkvnative::webgpu {
namespace {

constexpr double kLinkBytes = 50e3;   // a microsecond: PCIe 5 x16. Over a slower link more threads than need be carry
constexpr double kStart = 3;          // microseconds until bytes flow
constexpr uint64_t kRoundBytes = 64;  // of a thread: kernels/carry.wgsl

// To copy so many bytes beside a kernel of so many microseconds: a multiple of kCarryStep.
uint32_t carrying_threads(double bytes, double time, const Tuning& tuning) {
  const double part = bytes / kLinkBytes / time;  // of the time that the link is to be busy
  const auto steps = static_cast<uint32_t>(std::ceil(std::min(1.0, part * tuning.carry_spare / 100) * tuning.carry_threads / kCarryStep));
  return std::max(1u, steps) * kCarryStep;
}

}  // namespace

std::vector<Share> carried_shares(const std::vector<Carrier>& carriers, uint64_t bytes, uint64_t limit, const Tuning& tuning) {
  // Up to 1, kernels copy for their weight's part of that; up to 2, the lighter ones take what is left of their times; then all go on
  // alike.
  const auto part_of = [](double weight, double level) {
    return level <= 1 ? weight * level : level <= 2 ? weight + (1 - weight) * (level - 1) : level - 1;
  };
  const auto share = [&](const Carrier& carrier, double level) -> Share {
    const double time = carrier.time, part = part_of(carrier.weight, level);
    const double wanted = std::min(1e15, std::max(0.0, part * time - kStart) * kLinkBytes);
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
