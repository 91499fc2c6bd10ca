// The memory of a program's activations: float32 and int8 in one buffer (kernels/activations.wgsl), float16 in another
// (kernels/half_tiles.wgsl).
#pragma once

#include <span>
#include <vector>

#include "core/plan.h"
#include "webgpu/device.h"

namespace rwkvnative::webgpu {

// Addresses in vec4 of 16 bytes.
struct SlotPlace {
  uint32_t width = 0, padded = 0;  // padded: a multiple of 32 values
  uint32_t rows = 0;
  bool has_values = false, has_codes = false;
  uint32_t values = 0, codes = 0, heads = 0;
  uint32_t first_values = 0;  // before a program's first dispatch, if they move: Activations::move()
  uint32_t halves = 0, scales = 0;  // in the buffer of float16, and of its rows' factors: see kernels/pack_halves.wgsl
  uint32_t lengths = 0;             // of the same rows: their Euclidean lengths, where a kernel needs them

  uint32_t values_stride() const { return padded / 4; }
  uint32_t codes_stride() const { return padded / 16; }
  uint32_t heads_stride() const { return padded / 32; }
  uint32_t halves_stride() const { return (width + 63) / 64 * 8; }
};

class Activations {
 public:
  // Adds memory for a slot of `rows` rows and returns its number.
  size_t add(uint32_t width, uint32_t rows, bool values, bool codes, bool halves = false);
  void allocate(const Device& device);
  // What that takes: all of it, and its larger buffer.
  uint64_t bytes() const;
  uint64_t largest_buffer() const;

  const SlotPlace& operator[](size_t slot) const { return slots_.at(slot); }
  const Buffer& buffer() const { return buffer_; }
  const Buffer& halves() const { return halves_; }  // of 16 bytes where no slot has any

  // From here on the slot's values are where those of `free`, a slot like it, were, and the other way round.
  void move(size_t slot, size_t free);

  // Whole rows of a slot, as float32, before and after a submit; writing fills its codes too.
  void write(const Device& device, size_t slot, std::span<const float> values) const;
  void read(const Device& device, size_t slot, std::span<float> values) const;

 private:
  std::vector<SlotPlace> slots_;
  uint64_t vec4s_ = 0, half_vec4s_ = 0;
  Buffer buffer_, halves_;
};

}  // namespace rwkvnative::webgpu
