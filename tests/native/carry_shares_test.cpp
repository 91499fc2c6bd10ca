// webgpu/carry_shares.h: bytes shared out among kernels. tests/test_native.py builds and runs it. Prints "N checks passed", or what is
// wrong; exit status 1.
#include "webgpu/carry_shares.h"

#include <cstdio>
#include <numeric>
#include <random>

using namespace rwkvnative::webgpu;

namespace {

constexpr double kLink = 50e3;  // bytes a microsecond, as carried_shares() takes it
int passed = 0, failed = 0;

void check(const char* what, bool holds) {
  if (!holds) std::printf("FAILED %s\n", what);
  ++(holds ? passed : failed);
}

uint64_t sum(const std::vector<Share>& shares) {
  return std::accumulate(shares.begin(), shares.end(), uint64_t{0}, [](uint64_t n, const Share& share) { return n + share.bytes; });
}

// Microseconds that a share keeps the link.
double time_of(const Share& share) { return static_cast<double>(share.bytes) / kLink; }

void any_times_and_sizes() {
  std::mt19937 random(3);
  bool all_there = true, whole_rounds = true, limited = true;
  for (int round = 0; round < 200; ++round) {
    std::vector<Carrier> carriers(1 + random() % 60);
    for (Carrier& carrier : carriers) carrier = {4 + random() % 200 * 1.0, random() % 3 == 0 ? 0.5 : 1.0};
    const uint64_t bytes = 256 * (1 + random() % 400000), limit = uint64_t{4} << 20;
    const auto shares = carried_shares(carriers, bytes, limit, Tuning{});
    if (shares.empty()) {
      all_there = all_there && bytes > carriers.size() * (limit / 2);  // no room for so many in so few
      continue;
    }
    all_there = all_there && shares.size() == carriers.size() && sum(shares) == bytes;
    uint64_t before = 0;
    for (const Share& share : shares) {
      before += share.bytes;
      limited = limited && share.bytes <= limit && (share.bytes == 0 || (share.threads >= kCarryStep && share.threads % kCarryStep == 0));
      whole_rounds = whole_rounds && (share.bytes == 0 || before == bytes || share.bytes % (share.threads * 64) == 0);
    }
  }
  check("shares of any kernels come to all bytes", all_there);
  check("but for the last, shares are whole rounds", whole_rounds);
  check("shares keep to the limit and to steps of threads", limited);
}

void where_kernels_take_longer() {
  std::vector<Carrier> carriers;
  for (int i = 0; i < 20; ++i) carriers.insert(carriers.end(), {{100, 0.5}, {60, 1}, {4, 1}});
  const auto shares = carried_shares(carriers, static_cast<uint64_t>(20 * 60 * kLink) / 256 * 256, UINT64_MAX, Tuning{});
  bool in_time = shares.size() == carriers.size(), short_ones = in_time;
  double light = 0, heavy = 0;
  for (size_t i = 0; in_time && i < shares.size(); ++i) {
    in_time = time_of(shares[i]) <= carriers[i].time;
    short_ones = short_ones && (carriers[i].time > 10 || time_of(shares[i]) <= 3);
    if (carriers[i].time > 10) (carriers[i].weight == 1 ? light : heavy) += time_of(shares[i]) / carriers[i].time;
  }
  check("none keeps its kernel waiting", in_time);
  check("short ones carry little or nothing", short_ones);
  check("those of full weight carry more in their time", light > 1.5 * heavy && heavy > 0);
  const auto few = carried_shares(carriers, uint64_t{4} << 20, UINT64_MAX, Tuning{});
  check("a little is copied by few threads", !few.empty() && few.front().threads < Tuning{}.carry_threads);
}

void where_the_link_takes_longer() {
  const std::vector<Carrier> carriers = {{100, 0.5}, {60, 1}, {40, 1}};
  const auto shares = carried_shares(carriers, static_cast<uint64_t>(600 * kLink) / 256 * 256, UINT64_MAX, Tuning{});
  bool all_hidden = shares.size() == carriers.size();
  for (size_t i = 0; all_hidden && i < shares.size(); ++i)
    all_hidden = time_of(shares[i]) >= carriers[i].time && shares[i].threads == Tuning{}.carry_threads;
  check("each kernel is hidden behind its share, which all threads copy", all_hidden);
  check("bindings too small for all bytes", carried_shares(carriers, uint64_t{8} << 20, uint64_t{1} << 20, Tuning{}).empty());
  check("no kernel, no shares", carried_shares({}, 4096, UINT64_MAX, Tuning{}).empty());
}

}  // namespace

int main() {
  any_times_and_sizes();
  where_kernels_take_longer();
  where_the_link_takes_longer();
  if (failed == 0) std::printf("%d checks passed\n", passed);
  return failed == 0 ? 0 : 1;
}
