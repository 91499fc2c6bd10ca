// Barriers and SIMD-group functions: calls into the runtime, where the other threads run meanwhile.
#pragma once
#pragma clang system_header

#include "../../../runtime/abi.h"

namespace metal {

enum class mem_flags : uint { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4, mem_threadgroup_imageblock = 8 };
inline constexpr mem_flags operator|(mem_flags a, mem_flags b) { return (mem_flags)((uint)a | (uint)b); }

// The line by default is that of the call: all threads must be at the same one.
inline void threadgroup_barrier(mem_flags flags, uint line = __builtin_LINE()) { msl_threadgroup_barrier((uint)flags, line); }
inline void simdgroup_barrier(mem_flags flags, uint line = __builtin_LINE()) { msl_simdgroup_barrier((uint)flags, line); }

template <class T>
inline T msl_slot(const msl::Exchange& e, uint lane) {
  return *(const T*)((const char*)e.slots + lane * msl::kSlotBytes);
}

// The lane that arrives last reduces what all brought, as a tree; all read its result.
#define MSL_REDUCTION(name, number, expression)                                                              \
  template <class T>                                                                                         \
  void msl_reduce_##name(void* slots, uint mask, void* result) {                                             \
    T t[msl::kLanes];                                                                                        \
    uint n = 0;                                                                                              \
    for (uint i = 0; i < msl::kLanes; i++)                                                                   \
      if (mask >> i & 1) t[n++] = *(const T*)((const char*)slots + i * msl::kSlotBytes);                     \
    while (n > 1) {                                                                                          \
      const uint half_n = (n + 1) / 2;                                                                       \
      for (uint i = 0; i + half_n < n; i++) {                                                                \
        T a = t[i], b = t[i + half_n];                                                                       \
        t[i] = expression;                                                                                   \
      }                                                                                                      \
      n = half_n;                                                                                            \
    }                                                                                                        \
    *(T*)result = t[0];                                                                                      \
  }                                                                                                          \
  template <class T>                                                                                         \
  inline T name(T value, uint line = __builtin_LINE()) {                                                     \
    static_assert(sizeof(T) <= msl::kSlotBytes, "larger than a slot");                                       \
    return *(const T*)msl_simd_reduce(&value, sizeof value, number, line, msl_reduce_##name<T>);             \
  }
MSL_REDUCTION(simd_sum, 1, (T)(a + b))
MSL_REDUCTION(simd_max, 2, metal::max(a, b))
MSL_REDUCTION(simd_min, 3, metal::min(a, b))
MSL_REDUCTION(simd_or, 4, (T)(a | b))
MSL_REDUCTION(simd_and, 5, (T)(a & b))
MSL_REDUCTION(simd_product, 6, (T)(a * b))
MSL_REDUCTION(simd_xor, 7, (T)(a ^ b))
#undef MSL_REDUCTION

// A lane outside of 0..31 gives the caller its own value: MSL leaves it undefined.
#define MSL_SHUFFLE(name, number, source)                                            \
  template <class T>                                                                 \
  inline T name(T value, ushort d, uint line = __builtin_LINE()) {                   \
    msl::Exchange e = msl_simd_exchange(&value, sizeof value, number, line);         \
    const int from = source;                                                         \
    return from < 0 || from >= (int)msl::kLanes ? value : msl_slot<T>(e, (uint)from); \
  }
MSL_SHUFFLE(simd_shuffle, 10, (int)d)
MSL_SHUFFLE(simd_shuffle_down, 11, (int)e.lane + d)
MSL_SHUFFLE(simd_shuffle_up, 12, (int)e.lane - d)
MSL_SHUFFLE(simd_shuffle_xor, 13, (int)(e.lane ^ d))
MSL_SHUFFLE(simd_broadcast, 14, (int)d)
#undef MSL_SHUFFLE

template <class T>
inline T simd_broadcast_first(T value, uint line = __builtin_LINE()) {
  msl::Exchange e = msl_simd_exchange(&value, sizeof value, 15, line);
  return msl_slot<T>(e, __builtin_ctz(e.mask));
}
template <class T>
inline T simd_prefix_exclusive_sum(T value, uint line = __builtin_LINE()) {
  msl::Exchange e = msl_simd_exchange(&value, sizeof value, 16, line);
  T sum = 0;
  for (uint i = 0; i < e.lane; i++)
    if (e.mask >> i & 1) sum += msl_slot<T>(e, i);
  return sum;
}
template <class T>
inline T simd_prefix_inclusive_sum(T value, uint line = __builtin_LINE()) {
  return simd_prefix_exclusive_sum(value, line) + value;
}
inline bool simd_any(bool value, uint line = __builtin_LINE()) { return simd_or((uint)value, line) != 0; }
inline bool simd_all(bool value, uint line = __builtin_LINE()) { return simd_and((uint)value, line) != 0; }
inline bool simd_is_first(uint line = __builtin_LINE()) {
  const uint nothing = 0;
  msl::Exchange e = msl_simd_exchange(&nothing, sizeof nothing, 17, line);
  return e.lane == (uint)__builtin_ctz(e.mask);
}

}  // namespace metal
