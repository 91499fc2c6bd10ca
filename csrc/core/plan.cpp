#include "core/plan.h"

namespace rwkvnative {

size_t StatePart::values() const {
  size_t n = 1;
  for (uint32_t dim : shape) n *= dim;
  return n;
}

size_t Plan::state_values_per_layer() const { return state_part_offset(static_cast<uint32_t>(state_parts.size())); }

size_t Plan::state_part_offset(uint32_t part) const {
  size_t offset = 0;
  for (uint32_t i = 0; i < part; ++i) offset += state_parts.at(i).values();
  return offset;
}

size_t Plan::weight_bytes() const {
  size_t bytes = 0;
  for (const Tensor& tensor : tensors) bytes += tensor.bytes();
  return bytes;
}

}  // namespace rwkvnative
