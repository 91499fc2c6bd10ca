// Construction and conversion of vectors with MSL's meaning: by value, with splat and concatenation. clang's own C casts
// between vectors reinterpret bits.
#pragma once
#pragma clang system_header

namespace msl {

template <bool B, class T = void>
struct enable_if {};
template <class T>
struct enable_if<true, T> {
  using type = T;
};
template <class A, class B>
constexpr bool is_same = false;
template <class A>
constexpr bool is_same<A, A> = true;

template <class T, int N>
using vector = T __attribute__((ext_vector_type(N)));

// The element type and count of a scalar or vector.
template <class V>
struct traits {
  using element = V;
  static constexpr int n = 1;
  static constexpr bool is_vector = false;
};
template <class T, int N>
struct traits<T __attribute__((ext_vector_type(N)))> {
  using element = T;
  static constexpr int n = N;
  static constexpr bool is_vector = true;
};
template <class V>
using element = typename traits<V>::element;

template <class T>
constexpr bool is_float = is_same<T, float> || is_same<T, half> || is_same<T, bfloat>;
template <class V>
using if_float = typename enable_if<is_float<element<V>>, V>::type;

template <class V, class A>
constexpr void append(V& result, int& i, A value) {
  if constexpr (traits<A>::is_vector) {
    for (int k = 0; k < traits<A>::n; k++) result[i++] = (element<V>)value[k];
  } else {
    result[i++] = (element<V>)value;
  }
}

template <class V, class A>
constexpr V convert(A value) {
  if constexpr (traits<A>::is_vector) {
    static_assert(traits<A>::n == traits<V>::n, "MSL: vectors of different sizes do not convert");
    return __builtin_convertvector(value, V);
  } else {
    V result;
    for (int k = 0; k < traits<V>::n; k++) result[k] = (element<V>)value;
    return result;
  }
}

template <class V, class... A>
inline V make(A... values) {
  if constexpr (!traits<V>::is_vector) {
    return V(values...);
  } else if constexpr (sizeof...(A) == 0) {
    return V{};
  } else if constexpr (sizeof...(A) == 1) {
    return convert<V>(values...);
  } else {
    static_assert((... + traits<A>::n) == traits<V>::n, "MSL: wrong number of vector components");
    V result{};
    int i = 0;
    (append(result, i, values), ...);
    return result;
  }
}

// (V)x, as rewrite.py writes it: cast<V>()->*x.
template <class V>
struct cast {
  template <class A>
  V operator->*(A value) const {
    return make<V>(value);
  }
};

// Functions of scalars, applied to each element.
template <class F, class V>
inline V map(F f, V x) {
  if constexpr (traits<V>::is_vector) {
    V result;
    for (int i = 0; i < traits<V>::n; i++) result[i] = f(x[i]);
    return result;
  } else {
    return f(x);
  }
}
template <class F, class V>
inline V map(F f, V x, V y) {
  if constexpr (traits<V>::is_vector) {
    V result;
    for (int i = 0; i < traits<V>::n; i++) result[i] = f(x[i], y[i]);
    return result;
  } else {
    return f(x, y);
  }
}
template <class F, class V>
inline V map(F f, V x, V y, V z) {
  if constexpr (traits<V>::is_vector) {
    V result;
    for (int i = 0; i < traits<V>::n; i++) result[i] = f(x[i], y[i], z[i]);
    return result;
  } else {
    return f(x, y, z);
  }
}

}  // namespace msl

// float4(...) as an expression; `float4 x` is not followed by a parenthesis and stays the type.
#define float2(...) ::msl::make<float2>(__VA_ARGS__)
#define float3(...) ::msl::make<float3>(__VA_ARGS__)
#define float4(...) ::msl::make<float4>(__VA_ARGS__)
#define half2(...) ::msl::make<half2>(__VA_ARGS__)
#define half3(...) ::msl::make<half3>(__VA_ARGS__)
#define half4(...) ::msl::make<half4>(__VA_ARGS__)
#define bfloat2(...) ::msl::make<bfloat2>(__VA_ARGS__)
#define bfloat3(...) ::msl::make<bfloat3>(__VA_ARGS__)
#define bfloat4(...) ::msl::make<bfloat4>(__VA_ARGS__)
#define bool2(...) ::msl::make<bool2>(__VA_ARGS__)
#define bool3(...) ::msl::make<bool3>(__VA_ARGS__)
#define bool4(...) ::msl::make<bool4>(__VA_ARGS__)
#define char2(...) ::msl::make<char2>(__VA_ARGS__)
#define char3(...) ::msl::make<char3>(__VA_ARGS__)
#define char4(...) ::msl::make<char4>(__VA_ARGS__)
#define uchar2(...) ::msl::make<uchar2>(__VA_ARGS__)
#define uchar3(...) ::msl::make<uchar3>(__VA_ARGS__)
#define uchar4(...) ::msl::make<uchar4>(__VA_ARGS__)
#define short2(...) ::msl::make<short2>(__VA_ARGS__)
#define short3(...) ::msl::make<short3>(__VA_ARGS__)
#define short4(...) ::msl::make<short4>(__VA_ARGS__)
#define ushort2(...) ::msl::make<ushort2>(__VA_ARGS__)
#define ushort3(...) ::msl::make<ushort3>(__VA_ARGS__)
#define ushort4(...) ::msl::make<ushort4>(__VA_ARGS__)
#define int2(...) ::msl::make<int2>(__VA_ARGS__)
#define int3(...) ::msl::make<int3>(__VA_ARGS__)
#define int4(...) ::msl::make<int4>(__VA_ARGS__)
#define uint2(...) ::msl::make<uint2>(__VA_ARGS__)
#define uint3(...) ::msl::make<uint3>(__VA_ARGS__)
#define uint4(...) ::msl::make<uint4>(__VA_ARGS__)
#define long2(...) ::msl::make<long2>(__VA_ARGS__)
#define long3(...) ::msl::make<long3>(__VA_ARGS__)
#define long4(...) ::msl::make<long4>(__VA_ARGS__)
#define ulong2(...) ::msl::make<ulong2>(__VA_ARGS__)
#define ulong3(...) ::msl::make<ulong3>(__VA_ARGS__)
#define ulong4(...) ::msl::make<ulong4>(__VA_ARGS__)

// Vectors without alignment: what a struct shared with the host holds.
template <class T, int N>
struct msl_packed {
  T value[N];
  msl_packed() = default;
#ifdef MSL_ADDRESS_SPACES
  msl_packed(const msl_packed& o) = default;
  msl_packed(const device msl_packed& o) {
    for (int i = 0; i < N; i++) value[i] = o.value[i];
  }
  msl_packed(const threadgroup msl_packed& o) {
    for (int i = 0; i < N; i++) value[i] = o.value[i];
  }
#endif
  msl_packed(msl::vector<T, N> v) {
    for (int i = 0; i < N; i++) value[i] = v[i];
  }
  operator msl::vector<T, N>() const {
    msl::vector<T, N> v;
    for (int i = 0; i < N; i++) v[i] = value[i];
    return v;
  }
  T operator[](int i) const { return value[i]; }
};
#define MSL_PACKED(T)                      \
  typedef msl_packed<T, 2> packed_##T##2; \
  typedef msl_packed<T, 3> packed_##T##3; \
  typedef msl_packed<T, 4> packed_##T##4;
MSL_PACKED(float)
MSL_PACKED(half)
MSL_PACKED(char)
MSL_PACKED(uchar)
MSL_PACKED(short)
MSL_PACKED(ushort)
MSL_PACKED(int)
MSL_PACKED(uint)
#undef MSL_PACKED
namespace msl {
template <class V, class T, int N>
inline V make(msl_packed<T, N> value) {
  return make<V>((vector<T, N>)value);
}
}  // namespace msl
