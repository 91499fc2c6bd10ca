#include "cpu/ceilings.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <vector>

#include "cpu/model.h"

namespace rwkvnative::cpu {
namespace {

using Clock = std::chrono::steady_clock;
using Worker = ThreadPool::Worker;

constexpr size_t kReadBytes = size_t{256} << 20;
constexpr uint32_t kBarriers = 2000;
constexpr uint32_t kWidth = 1024, kTokens = 32;  // of the products: a tile of weights and its inputs stay in the L2 cache
constexpr int kRuns = 5;
constexpr double kLeastSeconds = 0.02;  // of a run

double seconds_of(const std::function<void()>& work) {
  const Clock::time_point start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The best of some runs, as seconds of one repeat; a run has as many repeats as take kLeastSeconds.
double best_seconds(const std::function<void(uint32_t repeats)>& work) {
  uint32_t repeats = 1;
  double best = seconds_of([&] { work(repeats); });
  while (best * repeats < kLeastSeconds && repeats < (1u << 20)) {
    repeats *= 2;
    best = seconds_of([&] { work(repeats); }) / repeats;
  }
  for (int run = 1; run < kRuns; ++run) best = std::min(best, seconds_of([&] { work(repeats); }) / repeats);
  return best;
}

uint64_t sum(const uint64_t* values, size_t n) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i + 8 <= n; i += 8)
    for (size_t j = 0; j < 8; ++j) sums[j] += values[i + j];
  return sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7];
}

double read_bytes_per_second(ThreadPool& pool) {
  constexpr size_t kPiece = size_t{1} << 20;  // bytes of a task
  constexpr uint32_t kTasks = kReadBytes / kPiece;
  const Buffer<uint64_t> memory(kReadBytes / sizeof(uint64_t));
  const auto piece = [&](uint32_t task) { return memory.data() + task * (kPiece / sizeof(uint64_t)); };
  pool.run([&](Worker& worker) { worker.for_tasks(kTasks, [&](uint32_t task) { std::memset(piece(task), 1, kPiece); }); });
  std::vector<uint64_t> sums(pool.size());  // kept, so that the reading is not optimized away
  const double seconds = best_seconds([&](uint32_t repeats) {
    pool.run([&](Worker& worker) {
      for (uint32_t i = 0; i < repeats; ++i)
        worker.for_tasks(kTasks, [&](uint32_t task) { sums[worker.index()] += sum(piece(task), kPiece / sizeof(uint64_t)); });
    });
  });
  return sums[0] == 1 ? 0 : static_cast<double>(kReadBytes) / seconds;
}

double barrier_seconds(ThreadPool& pool) {
  return best_seconds([&](uint32_t repeats) {
           pool.run([&](Worker& worker) {
             for (uint32_t i = 0; i < repeats * kBarriers; ++i) worker.barrier();
           });
         }) /
         kBarriers;
}

// What one thread multiplies: a tile of kTileRows rows of weights with kTokens inputs.
struct Products {
  explicit Products(const Kernels& kernels)
      : weights(size_t{kTileRows} * row_bytes()),
        tile(kernels.tile_int8_bytes(DType::Q8_0, kWidth)),
        blocks(size_t{kTokens} * int8_blocks(kWidth)),
        float_tile(size_t{kWidth} * kTileRows),
        floats(size_t{kTokens} * kWidth),
        out(size_t{kTokens} * kTileRows) {
    std::memset(weights.data(), 0, weights.size());
    std::memset(blocks.data(), 0, blocks.size() * sizeof(Int8Block));
    std::fill_n(float_tile.data(), float_tile.size(), 0.0f);
    std::fill_n(floats.data(), floats.size(), 0.0f);
    kernels.pack_tile_int8(DType::Q8_0, weights.data(), row_bytes(), kWidth, kTileRows, tile.data());
  }
  static size_t row_bytes() { return kWidth / traits(DType::Q8_0).block_values * traits(DType::Q8_0).block_bytes; }

  Buffer<std::byte> weights, tile;
  Buffer<Int8Block> blocks;
  Buffer<float> float_tile, floats, out;
};

// Operations per second of all threads; `multiply` does one tile.
double products_per_second(ThreadPool& pool, const std::vector<Products>& work,
                           const std::function<void(const Products&)>& multiply) {
  const double seconds = best_seconds([&](uint32_t repeats) {
    pool.run([&](Worker& worker) {
      for (uint32_t i = 0; i < repeats; ++i) multiply(work[worker.index()]);
      worker.barrier();
    });
  });
  return 2.0 * kTileRows * kWidth * kTokens * pool.size() / seconds;
}

}  // namespace

Ceilings measure_ceilings(ThreadPool& pool, const Kernels& kernels) {
  std::vector<Products> work;
  for (uint32_t i = 0; i < pool.size(); ++i) work.emplace_back(kernels);
  Ceilings ceilings;
  ceilings.read_bytes_per_second = read_bytes_per_second(pool);
  ceilings.dispatch_seconds = barrier_seconds(pool);
  ceilings.int8_per_second = products_per_second(pool, work, [&](const Products& p) {
    kernels.multiply_tile_int8(DType::Q8_0, p.tile.data(), kWidth, p.blocks.data(), kTokens, p.out.data(), kTileRows, {});
  });
  ceilings.f32_per_second = products_per_second(pool, work, [&](const Products& p) {
    kernels.multiply_tile_f32(p.float_tile.data(), kWidth, p.floats.data(), kWidth, kTokens, p.out.data(), kTileRows);
  });
  return ceilings;
}

}  // namespace rwkvnative::cpu
