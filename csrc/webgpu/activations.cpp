#include "webgpu/activations.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"

namespace rwkvnative::webgpu {
namespace {

// Where the code of value i of a row is: see kernels/activations.wgsl.
size_t code_at(const SlotPlace& place, size_t i) { return i / 16 % 2 * (place.padded / 2) + i / 32 * 16 + i % 16; }

}  // namespace

size_t Activations::add(uint32_t width, uint32_t rows, bool values, bool codes, bool halves) {
  SlotPlace place{.width = width, .padded = (width + 31) / 32 * 32, .rows = rows, .has_values = values, .has_codes = codes};
  const auto take = [&](uint64_t vec4s) {
    const uint64_t at = vec4s_;
    vec4s_ += vec4s;
    return static_cast<uint32_t>(at);
  };
  if (values) place.values = place.first_values = take(uint64_t{rows} * place.values_stride());
  if (codes) place.codes = take(uint64_t{rows} * place.codes_stride());
  if (codes) place.heads = take(uint64_t{rows} * place.heads_stride());
  if (halves) place.halves = static_cast<uint32_t>(half_vec4s_);
  if (halves) half_vec4s_ += uint64_t{rows} * place.halves_stride();
  if (halves) place.scales = take((uint64_t{rows} + 3) / 4);
  if (halves) place.lengths = take((uint64_t{rows} + 3) / 4);
  slots_.push_back(place);
  return slots_.size() - 1;
}

void Activations::move(size_t slot, size_t free) { std::swap(slots_.at(slot).values, slots_.at(free).values); }

uint64_t Activations::bytes() const { return (vec4s_ + half_vec4s_) * 16; }

uint64_t Activations::largest_buffer() const { return std::max(vec4s_, half_vec4s_) * 16; }

void Activations::allocate(const Device& device) {
  const auto create = [&](const char* label, uint64_t vec4s) {
    const uint64_t bytes = std::max<uint64_t>(vec4s, 1) * 16;
    if (bytes > device.max_binding()) {
      throw DeviceError(message("[webgpu] ", device.info().name, ": ", label, " need a binding of ", bytes,
                                " bytes, the device allows ", device.max_binding(), "; take fewer rows at once"));
    }
    return device.create_buffer(label, bytes, WGPUBufferUsage_Storage | WGPUBufferUsage_CopySrc | WGPUBufferUsage_CopyDst);
  };
  buffer_ = create("activations", vec4s_);
  halves_ = create("float16 activations", half_vec4s_);
}

void Activations::write(const Device& device, size_t slot, std::span<const float> values) const {
  const SlotPlace& place = slots_.at(slot);
  const size_t rows = values.size() / place.width;
  if (rows * place.width != values.size() || rows > place.rows) {
    throw InputError(message("[webgpu] write_slot: expected up to ", place.rows, " rows of ", place.width, " values, got ",
                             values.size(), " values"));
  }
  std::vector<float> padded(place.padded);
  for (size_t row = 0; row < rows; ++row) {
    std::copy_n(values.data() + row * place.width, place.width, padded.data());
    if (place.has_values) {
      device.write(buffer_.get(), 16 * (place.first_values + row * place.values_stride()), std::as_bytes(std::span(padded)));
    }
    if (!place.has_codes) continue;
    std::vector<int8_t> codes(place.padded);
    std::vector<float> heads(place.padded / 8);
    for (size_t block = 0; block < place.padded / 32; ++block) {
      const float* x = padded.data() + 32 * block;
      float most = 0;
      for (size_t i = 0; i < 32; ++i) most = std::max(most, std::abs(x[i]));
      const float inverse = most > 1e-30f ? 127.0f / most : 0.0f;
      float sums[2] = {0, 0};
      for (size_t i = 0; i < 32; ++i) {
        const float code = std::nearbyint(x[i] * inverse);
        codes[code_at(place, 32 * block + i)] = static_cast<int8_t>(code);
        sums[i / 16] += code;
      }
      const float d = most / 127.0f;
      float* head = heads.data() + 4 * block;
      head[0] = d;
      head[1] = d * sums[0];
      head[2] = d * sums[1];
      head[3] = d * (sums[0] + sums[1]);
    }
    device.write(buffer_.get(), 16 * (place.codes + row * place.codes_stride()), std::as_bytes(std::span(codes)));
    device.write(buffer_.get(), 16 * (place.heads + row * place.heads_stride()), std::as_bytes(std::span(heads)));
  }
}

void Activations::read(const Device& device, size_t slot, std::span<float> values) const {
  const SlotPlace& place = slots_.at(slot);
  const size_t rows = values.size() / place.width;
  if (rows * place.width != values.size() || rows > place.rows) {
    throw InputError(message("[webgpu] read_slot: expected up to ", place.rows, " rows of ", place.width,
                             " values, got room for ", values.size(), " values"));
  }
  if (place.has_values) {
    std::vector<float> padded(rows * place.padded);
    device.read(buffer_.get(), 16 * uint64_t{place.values}, std::as_writable_bytes(std::span(padded)));
    for (size_t row = 0; row < rows; ++row)
      std::copy_n(padded.data() + row * place.padded, place.width, values.data() + row * place.width);
  } else if (place.has_codes) {
    std::vector<int8_t> codes(rows * place.padded);
    std::vector<float> heads(rows * place.padded / 8);
    device.read(buffer_.get(), 16 * uint64_t{place.codes}, std::as_writable_bytes(std::span(codes)));
    device.read(buffer_.get(), 16 * uint64_t{place.heads}, std::as_writable_bytes(std::span(heads)));
    for (size_t row = 0; row < rows; ++row) {
      for (size_t i = 0; i < place.width; ++i) {
        const size_t code = row * place.padded + code_at(place, i);
        values[row * place.width + i] = codes[code] * heads[(row * place.padded + i) / 32 * 4];
      }
    }
  } else {
    std::fill(values.begin(), values.end(), 0.0f);  // nothing reads or writes it
  }
}

}  // namespace rwkvnative::webgpu
