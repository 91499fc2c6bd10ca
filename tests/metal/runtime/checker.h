// Check mode: the compiler calls us at every load and store, and each is held against what happened to its bytes before.
// Reported are accesses outside of every bound buffer and of threadgroup memory, threadgroup memory that is read before
// it is written, and pairs of accesses by different threads, one of them a write, that no barrier orders.
#pragma once

#include <cstddef>
#include <cstdint>

namespace msl {

// Every thread of every dispatch has a number; an access is known by the number of its thread. Reserves n of them.
uint64_t take_access_numbers(uint64_t n);

}  // namespace msl
