// Every kernel set that this processor runs against the reference set, op by op. tests/test_native.py builds and runs it,
// natively and, for arm64, under qemu. Prints "N checks passed" or the first difference of each failing check; exit status 1.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/quantize.h"
#include "cpu/isa.h"

using namespace rwkvnative;
using namespace rwkvnative::cpu;

namespace {

int passed = 0, failed = 0;
std::mt19937 generator(1);

std::vector<float> normal(size_t n, float deviation = 1.0f) {
  std::normal_distribution<float> distribution(0.0f, deviation);
  std::vector<float> values(n);
  for (float& value : values) value = distribution(generator);
  return values;
}

// |got - expected| <= tolerance * max(1, the largest |expected|): sums of different order, not different formulas. All
// operands are of order one.
void check(const std::string& what, const std::vector<float>& got, const std::vector<float>& expected, float tolerance) {
  float largest = 1.0f;
  for (float value : expected) largest = std::max(largest, std::fabs(value));
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::fabs(got[i] - expected[i]) <= tolerance * largest) continue;
    std::printf("FAILED %s: [%zu] expected %g, got %g\n", what.c_str(), i, expected[i], got[i]);
    ++failed;
    return;
  }
  ++passed;
}

constexpr float kLargestOfBytes = 100.0f;

// A matrix of `type`, each row followed by the next without a gap.
struct Matrix {
  // Of random values.
  Matrix(const DTypeTraits& type, uint32_t n, uint32_t rows) : row_bytes(type.bytes(n)), bytes(row_bytes * rows) {
    for (uint32_t i = 0; i < rows; ++i) type.quantize(normal(n).data(), bytes.data() + i * row_bytes, n, nullptr);
  }
  // Of random bytes: every code and scale that a file may hold, also those that no quantizer makes.
  static Matrix of_bytes(const DTypeTraits& type, uint32_t n, uint32_t rows) {
    Matrix matrix(type, n, rows);
    const size_t block_bytes = type.bytes(type.block_values);
    std::vector<float> values(type.block_values);
    const auto usable = [](float value) { return std::fabs(value) < kLargestOfBytes; };  // infinity and NaN are not
    for (size_t at = 0; at < matrix.bytes.size(); at += block_bytes) {
      do {
        for (size_t i = 0; i < block_bytes; ++i) matrix.bytes[at + i] = static_cast<std::byte>(generator());
        type.dequantize(matrix.bytes.data() + at, values.data(), type.block_values);
      } while (!std::all_of(values.begin(), values.end(), usable));
    }
    return matrix;
  }
  size_t row_bytes;
  std::vector<std::byte> bytes;
};

constexpr float kSumTolerance = 1e-5f;   // float32 sums of at most a few thousand products
constexpr float kStepTolerance = 2e-6f;  // elementwise functions
constexpr float kPad = 12345.0f;         // a value that no kernel may touch

std::vector<Int8Block> quantized(const Kernels& kernels, const std::vector<float>& x, uint32_t n, uint32_t rows) {
  std::vector<Int8Block> blocks(size_t{int8_blocks(n)} * rows);
  for (uint32_t i = 0; i < rows; ++i) kernels.quantize(x.data() + i * n, n, blocks.data() + size_t{i} * int8_blocks(n));
  return blocks;
}

void test_quantize(const Kernels& kernels) {
  for (uint32_t n : {7u, 16u, 32u, 40u, 256u, 300u, 768u}) {
    std::vector<float> x = normal(n, 3.0f);
    for (uint32_t i = 0; i < n / 3; ++i) x[i] = 0;  // an all-zero group
    const auto got = quantized(kernels, x, n, 1), expected = quantized(reference_kernels(), x, n, 1);
    const auto flatten = [](const std::vector<Int8Block>& blocks) {
      std::vector<float> values;
      for (const Int8Block& block : blocks) {
        values.insert(values.end(), block.q, block.q + 256);
        for (const float* part : {block.d_sum32, block.d16, block.sum16}) values.insert(values.end(), part, part + 16);
      }
      return values;
    };
    // One code may round the other way where the two divisions differ in the last bit.
    check(std::string(kernels.name) + " quantize " + std::to_string(n), flatten(got), flatten(expected), 1.01f / 127);
  }
}

void test_products(const Kernels& kernels, const DTypeTraits& type) {
  for (uint32_t n : {32u, 96u, 256u, 288u, 1024u, 24u, 7u, 300u}) {
    if (n % type.block_values != 0) continue;
    for (uint32_t rows : {1u, 5u, 16u}) {
      const std::string what = std::string(kernels.name) + " " + type.name + " " + std::to_string(n) + "x" + std::to_string(rows);
      // One of the shapes with all the bytes there are, and activations that all become the largest code.
      const bool extreme = n == 1024 && type.block_values > 1;
      const Matrix matrix = extreme ? Matrix::of_bytes(type, n, rows) : Matrix(type, n, rows);
      const float tolerance = (extreme ? kLargestOfBytes : 1.0f) * kSumTolerance;  // of the products, not of what they cancel to
      constexpr uint32_t kTokens = 11;
      std::vector<float> x = normal(size_t{n} * kTokens);
      if (extreme)
        for (float& value : x) value = value < 0 ? -1.0f : 1.0f;
      std::vector<float> scratch(n);
      // Few tokens: each of the runs of 4, 2 and 1 that kernels know, and some of them in a row.
      const auto check_dot = [&](const std::string& name, auto&& run) {
        for (uint32_t tokens : {1u, 2u, 3u, 5u, 7u}) {
          const size_t stride = rows + 1;
          std::vector<float> got(stride * tokens, kPad), expected(stride * tokens, kPad);
          run(kernels, tokens, got.data(), stride);
          run(reference_kernels(), tokens, expected.data(), stride);
          for (uint32_t t = 0; t < tokens; ++t)
            check(what + " " + name + " stays in bounds", {got[t * stride + rows]}, {kPad}, 0);
          for (std::vector<float>* values : {&got, &expected})
            for (uint32_t t = tokens; t-- > 0;) values->erase(values->begin() + static_cast<ptrdiff_t>(t * stride + rows));
          check(what + " " + name + " of " + std::to_string(tokens), got, expected, tolerance);
        }
      };
      check_dot("dot_f32", [&](const Kernels& k, uint32_t tokens, float* out, size_t stride) {
        k.dot_f32(type.type, matrix.bytes.data(), matrix.row_bytes, n, rows, x.data(), n, tokens, out, stride, scratch.data());
      });

      std::vector<float> tile(size_t{n} * kTileRows), products(size_t{kTokens} * kTileRows + 1, kPad);
      std::vector<float> reference_products(size_t{kTokens} * kTileRows);
      kernels.pack_tile_f32(type.type, matrix.bytes.data(), matrix.row_bytes, n, rows, tile.data());
      kernels.multiply_tile_f32(tile.data(), n, x.data(), n, kTokens, products.data(), kTileRows);
      reference_kernels().pack_tile_f32(type.type, matrix.bytes.data(), matrix.row_bytes, n, rows, tile.data());
      reference_kernels().multiply_tile_f32(tile.data(), n, x.data(), n, kTokens, reference_products.data(), kTileRows);
      check(what + " multiply_tile_f32 stays in bounds", {products.back()}, {kPad}, 0);
      products.pop_back();
      check(what + " multiply_tile_f32", products, reference_products, tolerance);

      if (type.block_values == 1) continue;
      const auto blocks = quantized(kernels, x, n, kTokens);  // both sides on the same codes
      check_dot("dot_int8", [&](const Kernels& k, uint32_t tokens, float* out, size_t stride) {
        k.dot_int8(type.type, matrix.bytes.data(), matrix.row_bytes, n, rows, blocks.data(), tokens, out, stride);
      });

      std::vector<std::byte> packed(kernels.tile_int8_bytes(type.type, n));
      std::vector<std::byte> reference_packed(reference_kernels().tile_int8_bytes(type.type, n));
      products.push_back(kPad);
      kernels.pack_tile_int8(type.type, matrix.bytes.data(), matrix.row_bytes, n, rows, packed.data());
      kernels.multiply_tile_int8(type.type, packed.data(), n, blocks.data(), kTokens, products.data(), kTileRows, matrix.bytes);
      reference_kernels().pack_tile_int8(type.type, matrix.bytes.data(), matrix.row_bytes, n, rows, reference_packed.data());
      reference_kernels().multiply_tile_int8(type.type, reference_packed.data(), n, blocks.data(), kTokens, reference_products.data(), kTileRows, {});
      check(what + " multiply_tile_int8 stays in bounds", {products.back()}, {kPad}, 0);
      products.pop_back();
      check(what + " multiply_tile_int8", products, reference_products, tolerance);
    }
  }
}

// What is not finite must not come out as a number, wherever among the values it is.
void test_not_finite(const Kernels& kernels, const DTypeTraits& type) {
  constexpr uint32_t n = 256, rows = 16;
  const Matrix matrix(type, n, rows);
  for (const float value : {NAN, INFINITY, -INFINITY})
    for (uint32_t at : {0u, 9u, 31u, 100u, 255u})
      for (const bool alone : {false, true}) {
        std::vector<float> x = alone ? std::vector<float>(n) : normal(n);
        x[at] = value;
        const auto blocks = quantized(kernels, x, n, 1);
        std::vector<float> dot(rows), tiled(kTileRows);
        kernels.dot_int8(type.type, matrix.bytes.data(), matrix.row_bytes, n, rows, blocks.data(), 1, dot.data(), rows);
        std::vector<std::byte> tile(kernels.tile_int8_bytes(type.type, n));
        kernels.pack_tile_int8(type.type, matrix.bytes.data(), matrix.row_bytes, n, rows, tile.data());
        kernels.multiply_tile_int8(type.type, tile.data(), n, blocks.data(), 1, tiled.data(), kTileRows, {});
        bool lost = false;
        for (uint32_t i = 0; i < rows; ++i) lost = lost || std::isfinite(dot[i]) || std::isfinite(tiled[i]);
        if (lost) std::printf("FAILED %s %s: %g at %u became a number\n", kernels.name, type.name, value, at);
        ++(lost ? failed : passed);
      }
}

void test_elementwise(const Kernels& kernels) {
  using Function = void (*Kernels::*)(float*, uint32_t);
  const std::pair<const char*, Function> functions[] = {
      {"tanh", &Kernels::tanh}, {"sigmoid", &Kernels::sigmoid}, {"relu_squared", &Kernels::relu_squared}};
  for (const auto& [name, function] : functions)
    for (uint32_t n : {1u, 16u, 33u, 100u}) {
      std::vector<float> x = normal(n, 8.0f);
      std::vector<float> undefined(n, NAN);
      (kernels.*function)(undefined.data(), n);
      for (float& value : undefined) value = std::isnan(value) ? 1.0f : 0.0f;
      check(std::string(kernels.name) + " " + name + " of NaN is NaN", undefined, std::vector<float>(n, 1.0f), 0);
      x[0] = 1000.0f;
      if (n > 1) x[1] = -1000.0f;
      std::vector<float> got = x, expected = x;
      got.push_back(kPad);
      (kernels.*function)(got.data(), n);
      (reference_kernels().*function)(expected.data(), n);
      check(std::string(kernels.name) + " " + name + " stays in bounds", {got.back()}, {kPad}, 0);
      got.pop_back();
      check(std::string(kernels.name) + " " + name, got, expected, kStepTolerance);
    }
}

void test_norm_and_mix(const Kernels& kernels) {
  for (uint32_t n : {16u, 64u, 768u}) {
    const std::vector<float> x = normal(n, 4.0f), previous = normal(n), weight = normal(n), bias = normal(n), lerp = normal(6 * n);
    const auto run = [&](const Kernels& k) {
      float mean, scale;
      k.norm_statistics(x.data(), n, 1e-5f, &mean, &scale);
      std::vector<float> out(8 * n);
      float* outs[6];
      for (uint32_t z = 0; z < 6; ++z) outs[z] = out.data() + z * n;
      k.mix({.x = x.data(), .previous = previous.data(), .mean = mean, .scale = scale, .norm_weight = weight.data(),
             .norm_bias = bias.data(), .lerp = lerp.data(), .lerp_stride = n, .begin = 0, .end = n,
             .h = out.data() + 6 * n, .out = outs, .n_out = 6});
      k.normalize(x.data(), n, mean, scale, weight.data(), bias.data(), out.data() + 7 * n);
      return out;
    };
    check(std::string(kernels.name) + " norm and mix " + std::to_string(n), run(kernels), run(reference_kernels()), kSumTolerance);
  }
}

void test_wkv7(const Kernels& kernels) {
  for (uint32_t N : {16u, 32u, 48u, 64u, 128u})
    for (bool first : {false, true}) {
      constexpr uint32_t kTokens = 5;
      const uint32_t stride = 2 * N;
      const auto rows = [&] { return normal(size_t{kTokens} * stride); };
      const auto r = rows(), k = rows(), v = rows(), w = rows(), a = rows(), vl = rows(), g = rows(), old_first = rows();
      const auto p = normal(8 * N);
      const auto initial = normal(size_t{N} * N, 0.1f);
      const auto run = [&](const Kernels& kernel_set) {
        std::vector<float> v_first = old_first, state = initial, y(size_t{kTokens} * stride, kPad);
        kernel_set.wkv7({.head_size = N, .tokens = kTokens, .stride = stride, .r = r.data(), .k = k.data(), .v = v.data(),
                         .w_lora = w.data(), .a_lora = a.data(), .v_lora = first ? nullptr : vl.data(), .g_lora = g.data(),
                         .w0 = p.data(), .a0 = p.data() + N, .v0 = p.data() + 2 * N, .k_k = p.data() + 3 * N,
                         .k_a = p.data() + 4 * N, .r_k = p.data() + 5 * N, .norm_weight = p.data() + 6 * N,
                         .norm_bias = p.data() + 7 * N, .norm_epsilon = 64e-5f, .v_first = v_first.data(),
                         .state_in = state.data(), .state_out = state.data(), .y = y.data()});
        for (uint32_t t = 0; t < kTokens; ++t)  // the other head's columns must be as they were
          for (uint32_t i = N; i < stride; ++i)
            if (y[t * stride + i] != kPad) y[0] = NAN;
        for (float& value : y) value = value == kPad ? 0 : value;
        y.insert(y.end(), state.begin(), state.end());
        y.insert(y.end(), v_first.begin(), v_first.end());
        return y;
      };
      check(std::string(kernels.name) + " wkv7 " + std::to_string(N), run(kernels), run(reference_kernels()), 2e-5f);
    }
}

}  // namespace

int main() {
  for (const Kernels* kernels : runnable_kernels()) {
    std::printf("%s\n", kernels->name);
    test_quantize(*kernels);
    for (const DTypeTraits& type : dtype_table()) {
      test_products(*kernels, type);
      if (type.block_values != 1) test_not_finite(*kernels, type);
    }
    test_elementwise(*kernels);
    test_norm_and_mix(*kernels);
    test_wkv7(*kernels);
  }
  if (failed != 0) {
    std::printf("%d checks failed, %d passed\n", failed, passed);
    return 1;
  }
  std::printf("%d checks passed\n", passed);
  return 0;
}
