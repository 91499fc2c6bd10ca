// The order of a state's values on the host and on a GPU.
#pragma once

#include <cstdint>

namespace rwkvnative {

// Calls copy(host, device) for the indices of one layer's part, which has its number of values and its heads' number and size:
// the host has [head][value][key], a GPU [head][key][value]. The map is its own inverse. head_size 0: the order is the same.
template <class Part, class Copy>
void for_each_state_value(const Part& part, Copy copy) {
  if (part.head_size == 0) {
    for (uint32_t i = 0; i < part.values; ++i) copy(i, i);
    return;
  }
  const uint32_t n = part.head_size;
  for (uint32_t head = 0; head < part.heads; ++head) {
    for (uint32_t value = 0; value < n; ++value) {
      for (uint32_t key = 0; key < n; ++key) copy((head * n + value) * n + key, (head * n + key) * n + value);
    }
  }
}

}  // namespace rwkvnative
