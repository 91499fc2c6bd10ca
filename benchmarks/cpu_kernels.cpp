// What the CPU's matrix kernels take where memory is no matter: 64 rows of 2048 weights, which the second cache holds, on one
// thread, for each kernel set that this processor runs and each type of weights.
//
//   cmake -S tests/native -B build/native -DCMAKE_BUILD_TYPE=Release
//   cmake --build build/native --target cpu_kernels_benchmark && build/native/cpu_kernels_benchmark [KERNEL_SET]
//
// A line per type: GB of weights a second that rows are multiplied at with one token (more than memory gives a core is enough);
// then nanoseconds per row and token of 1, 2, 3, ... tokens, first row after row, then by tiles of 16 rows, which are packed
// anew each time. Where the second is smaller is where Kernels::tile_tokens_int8 and tile_tokens_f32 should be.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "cpu/isa.h"

using namespace rwkvnative;
using namespace rwkvnative::cpu;

namespace {

constexpr uint32_t kWidth = 2048, kRows = 64;
constexpr uint32_t kTokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 16, 128};
constexpr uint32_t kMostTokens = 128;

using Clock = std::chrono::steady_clock;

// Of one call: the best of some runs of about half a millisecond.
double seconds_of(const std::function<void()>& work) {
  double best = 1e9;
  uint32_t repeats = 1;
  for (int run = 0; run < 30; ++run) {
    const Clock::time_point start = Clock::now();
    for (uint32_t i = 0; i < repeats; ++i) work();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count() / repeats;
    best = std::min(best, seconds);
    repeats = std::clamp(static_cast<uint32_t>(5e-4 / seconds), 1u, 10000u);
  }
  return best;
}

class Subject {
 public:
  Subject(const Kernels& kernels, const DTypeTraits& type)
      : kernels_(kernels), type_(type), int8_(type.block_values > 1), row_bytes_(type.bytes(kWidth)), weights_(row_bytes_ * kRows),
        x_(size_t{kWidth} * kMostTokens), blocks_(size_t{int8_blocks(kWidth)} * kMostTokens), scratch_(kWidth),
        tile_(int8_ ? kernels.tile_int8_bytes(type.type, kWidth) / sizeof(Line) + 1 : size_t{kWidth} * kTileRows * sizeof(float) / sizeof(Line)),
        out_(size_t{kMostTokens} * kRows) {
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    for (float& value : x_) value = normal(generator);
    for (uint32_t row = 0; row < kRows; ++row) type.quantize(x_.data() + row * kWidth, weights_.data() + row * row_bytes_, kWidth, nullptr);
    for (uint32_t t = 0; t < kMostTokens; ++t) kernels.quantize(x_.data() + t * kWidth, kWidth, blocks_.data() + t * int8_blocks(kWidth));
  }
  double rows(uint32_t tokens) {
    return seconds_of([&] {
      if (int8_)
        kernels_.dot_int8(type_.type, weights_.data(), row_bytes_, kWidth, kRows, blocks_.data(), tokens, out_.data(), kRows);
      else
        kernels_.dot_f32(type_.type, weights_.data(), row_bytes_, kWidth, kRows, x_.data(), kWidth, tokens, out_.data(), kRows, scratch_.data());
    });
  }
  double tiles(uint32_t tokens) {
    auto* tile = reinterpret_cast<std::byte*>(tile_.data());
    return seconds_of([&] {
      for (uint32_t row = 0; row < kRows; row += kTileRows) {
        const std::byte* weights = weights_.data() + row * row_bytes_;
        if (int8_) {
          kernels_.pack_tile_int8(type_.type, weights, row_bytes_, kWidth, kTileRows, tile);
          kernels_.multiply_tile_int8(type_.type, tile, kWidth, blocks_.data(), tokens, out_.data() + row, kRows, {});
        } else {
          kernels_.pack_tile_f32(type_.type, weights, row_bytes_, kWidth, kTileRows, reinterpret_cast<float*>(tile));
          kernels_.multiply_tile_f32(reinterpret_cast<float*>(tile), kWidth, x_.data(), kWidth, tokens, out_.data() + row, kRows);
        }
      }
    });
  }
  double bytes() const { return static_cast<double>(weights_.size()); }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  const Kernels& kernels_;
  const DTypeTraits& type_;
  const bool int8_;
  const size_t row_bytes_;
  std::vector<std::byte> weights_;
  std::vector<float> x_;
  std::vector<Int8Block> blocks_;
  std::vector<float> scratch_;
  std::vector<Line> tile_;
  std::vector<float> out_;
};

void print(const char* what, double (Subject::*time)(uint32_t), Subject& subject) {
  std::printf(" | %s", what);
  for (uint32_t tokens : kTokens) std::printf(" %5.1f", (subject.*time)(tokens) / kRows / tokens * 1e9);
}

}  // namespace

int main(int n_arguments, char** arguments) {
  for (const Kernels* kernels : runnable_kernels()) {
    if (kernels == &reference_kernels() || (n_arguments > 1 && std::strcmp(arguments[1], kernels->name) != 0)) continue;
    std::printf("%s; tokens", kernels->name);
    for (uint32_t tokens : kTokens) std::printf(" %u", tokens);
    std::printf("; tiles in use from %u (int8) and %u (float32) on\n", kernels->tile_tokens_int8, kernels->tile_tokens_f32);
    for (const DTypeTraits& type : dtype_table()) {
      Subject subject(*kernels, type);
      std::printf("%-6s %5.1f GB/s", type.name, subject.bytes() / subject.rows(1) / 1e9);
      print("rows", &Subject::rows, subject);
      print("tiles", &Subject::tiles, subject);
      std::printf("\n");
    }
  }
  return 0;
}
