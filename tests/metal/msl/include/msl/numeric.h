// Type traits, limits, bit functions.
#pragma once
#pragma clang system_header

namespace metal {

template <class T, int N>
using vec = msl::vector<T, N>;

template <bool B, class T = void>
using enable_if_t = typename msl::enable_if<B, T>::type;
template <bool B, class T, class F>
struct conditional {
  using type = T;
};
template <class T, class F>
struct conditional<false, T, F> {
  using type = F;
};
template <bool B, class T, class F>
using conditional_t = typename conditional<B, T, F>::type;
template <class A, class B>
struct is_same {
  static constexpr bool value = msl::is_same<A, B>;
};
template <class A, class B>
constexpr bool is_same_v = msl::is_same<A, B>;

template <class T>
struct numeric_limits;
template <>
struct numeric_limits<float> {
  static constexpr float max() { return __FLT_MAX__; }
  static constexpr float lowest() { return -__FLT_MAX__; }
  static constexpr float infinity() { return __builtin_inff(); }
};
template <>
struct numeric_limits<half> {
  static constexpr half max() { return 65504.0h; }
  static constexpr half lowest() { return -65504.0h; }
  static constexpr half infinity() { return (half)__builtin_inff(); }
};
template <>
struct numeric_limits<int> {
  static constexpr int max() { return __INT_MAX__; }
  static constexpr int min() { return -__INT_MAX__ - 1; }
  static constexpr int lowest() { return -__INT_MAX__ - 1; }
};
template <>
struct numeric_limits<uint> {
  static constexpr uint max() { return ~0u; }
  static constexpr uint min() { return 0; }
  static constexpr uint lowest() { return 0; }
};

template <class T, class S>
inline T as_type(S value) {
  static_assert(sizeof(T) == sizeof(S), "MSL: as_type between types of different sizes");
  return __builtin_bit_cast(T, value);
}

template <class T>
inline T ctz(T x) {
  return x ? (T)__builtin_ctzl((ulong)x) : (T)(sizeof(T) * 8);
}
template <class T>
inline T clz(T x) {
  if (!x) return (T)(sizeof(T) * 8);
  return (T)(__builtin_clzl((ulong)x & (~0ul >> (64 - sizeof(T) * 8))) - (64 - sizeof(T) * 8));
}
template <class T>
inline T popcount(T x) {
  return (T)__builtin_popcountl((ulong)x & (~0ul >> (64 - sizeof(T) * 8)));
}
inline uint extract_bits(uint x, uint offset, uint bits) {
  return bits == 0 ? 0 : bits == 32 ? x : (x >> offset) & ((1u << bits) - 1);
}
inline int extract_bits(int x, uint offset, uint bits) {
  return bits == 0 ? 0 : (int)((uint)x << (32 - offset - bits)) >> (32 - bits);
}
inline uint insert_bits(uint base, uint x, uint offset, uint bits) {
  const uint mask = (bits == 32 ? ~0u : (1u << bits) - 1) << offset;
  return (base & ~mask) | ((x << offset) & mask);
}
inline uint reverse_bits(uint x) { return __builtin_bitreverse32(x); }
inline uint mulhi(uint a, uint b) { return (uint)((ulong)a * b >> 32); }

}  // namespace metal
