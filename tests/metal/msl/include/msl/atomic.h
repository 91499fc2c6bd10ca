// Atomics: relaxed, as MSL has them.
#pragma once
#pragma clang system_header

namespace metal {

enum memory_order { memory_order_relaxed };
template <class T>
struct atomic {
  T value;
};
typedef atomic<uint> atomic_uint;
typedef atomic<int> atomic_int;
typedef atomic<float> atomic_float;

// The address in the host's one space, its bounds checked.
#define MSL_ATOMIC_ADDRESS(T, p) (msl_atomic_access((const volatile void*)(p), sizeof(T)), (T*)(p))

template <class T, class F>
inline T msl_atomic_update(T* p, F f) {
  T old = __builtin_bit_cast(T, __atomic_load_n((uint*)p, __ATOMIC_RELAXED));
  for (;;) {
    uint expected = __builtin_bit_cast(uint, old);
    if (__atomic_compare_exchange_n((uint*)p, &expected, __builtin_bit_cast(uint, (T)f(old)), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
      return old;
    old = __builtin_bit_cast(T, expected);
  }
}

#define MSL_ATOMIC_UPDATE(space, T, name, expression)                                                  \
  inline T name(volatile space atomic<T>* p, T x, memory_order) {                                      \
    return msl_atomic_update(MSL_ATOMIC_ADDRESS(T, p), [x](T old) { return (T)(expression); });        \
  }
#define MSL_ATOMICS(space, T)                                                                              \
  MSL_ATOMIC_UPDATE(space, T, atomic_fetch_add_explicit, old + x)                                          \
  MSL_ATOMIC_UPDATE(space, T, atomic_exchange_explicit, x)                                                 \
  inline T atomic_load_explicit(const volatile space atomic<T>* p, memory_order) {                         \
    return __builtin_bit_cast(T, __atomic_load_n((const uint*)MSL_ATOMIC_ADDRESS(T, p), __ATOMIC_RELAXED)); \
  }                                                                                                        \
  inline void atomic_store_explicit(volatile space atomic<T>* p, T x, memory_order) {                      \
    __atomic_store_n((uint*)MSL_ATOMIC_ADDRESS(T, p), __builtin_bit_cast(uint, x), __ATOMIC_RELAXED);      \
  }
#define MSL_INTEGER_ATOMICS(space, T)                                          \
  MSL_ATOMICS(space, T)                                                        \
  MSL_ATOMIC_UPDATE(space, T, atomic_fetch_sub_explicit, old - x)              \
  MSL_ATOMIC_UPDATE(space, T, atomic_fetch_max_explicit, old > x ? old : x)    \
  MSL_ATOMIC_UPDATE(space, T, atomic_fetch_min_explicit, old < x ? old : x)    \
  MSL_ATOMIC_UPDATE(space, T, atomic_fetch_or_explicit, old | x)               \
  MSL_ATOMIC_UPDATE(space, T, atomic_fetch_and_explicit, old & x)
MSL_INTEGER_ATOMICS(device, uint)
MSL_INTEGER_ATOMICS(device, int)
MSL_ATOMICS(device, float)
#ifdef MSL_ADDRESS_SPACES
MSL_INTEGER_ATOMICS(threadgroup, uint)
MSL_INTEGER_ATOMICS(threadgroup, int)
#endif
#undef MSL_INTEGER_ATOMICS
#undef MSL_ATOMICS
#undef MSL_ATOMIC_UPDATE

}  // namespace metal
