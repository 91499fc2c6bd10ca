// Mathematical functions of scalars and vectors. metal::, metal::precise:: and metal::fast:: are one here: how much less exact
// a GPU's are is not emulated; the tests' bounds leave room for it.
#pragma once
#pragma clang system_header

namespace metal {

// Overloads, not templates, so that arguments convert as they do in MSL. A half is calculated in float and rounded.
#define MSL_UNARY_OF(name, T, expression)            \
  inline T name(T argument) {                        \
    float x = (float)argument;                       \
    return (T)(expression);                          \
  }                                                  \
  inline T##2 name(T##2 v) { return {name(v[0]), name(v[1])}; }             \
  inline T##3 name(T##3 v) { return {name(v[0]), name(v[1]), name(v[2])}; } \
  inline T##4 name(T##4 v) { return {name(v[0]), name(v[1]), name(v[2]), name(v[3])}; }
#define MSL_UNARY(name, expression)     \
  MSL_UNARY_OF(name, float, expression) \
  MSL_UNARY_OF(name, half, expression)  \
  inline float name(int x) { return name((float)x); }

#define MSL_BINARY_OF(name, T, expression)         \
  inline T name(T a, T b) {                        \
    float x = (float)a, y = (float)b;              \
    return (T)(expression);                        \
  }                                                \
  inline T##2 name(T##2 a, T##2 b) { return {name(a[0], b[0]), name(a[1], b[1])}; }                   \
  inline T##3 name(T##3 a, T##3 b) { return {name(a[0], b[0]), name(a[1], b[1]), name(a[2], b[2])}; } \
  inline T##4 name(T##4 a, T##4 b) { return {name(a[0], b[0]), name(a[1], b[1]), name(a[2], b[2]), name(a[3], b[3])}; }
#define MSL_BINARY(name, expression)                                            \
  MSL_BINARY_OF(name, float, expression)                                        \
  MSL_BINARY_OF(name, half, expression)                                         \
  inline float name(float a, half b) { return name(a, (float)b); }              \
  inline float name(half a, float b) { return name((float)a, b); }              \
  inline float name(float a, int b) { return name(a, (float)b); }               \
  inline float name(half a, int b) { return name((float)a, (float)b); }         \
  inline float4 name(float4 a, float b) { return name(a, msl::make<float4>(b)); }

#define MSL_MATH                                  \
  MSL_UNARY(exp, __builtin_expf(x))               \
  MSL_UNARY(exp2, __builtin_exp2f(x))             \
  MSL_UNARY(exp10, __builtin_powf(10.0f, x))      \
  MSL_UNARY(log, __builtin_logf(x))               \
  MSL_UNARY(log2, __builtin_log2f(x))             \
  MSL_UNARY(log10, __builtin_log10f(x))           \
  MSL_UNARY(sqrt, __builtin_sqrtf(x))             \
  MSL_UNARY(rsqrt, 1.0f / __builtin_sqrtf(x))     \
  MSL_UNARY(sin, __builtin_sinf(x))               \
  MSL_UNARY(cos, __builtin_cosf(x))               \
  MSL_UNARY(tan, __builtin_tanf(x))               \
  MSL_UNARY(tanh, __builtin_tanhf(x))             \
  MSL_UNARY(fabs, __builtin_fabsf(x))             \
  MSL_UNARY(floor, __builtin_floorf(x))           \
  MSL_UNARY(ceil, __builtin_ceilf(x))             \
  MSL_UNARY(rint, __builtin_rintf(x))             \
  MSL_UNARY(round, __builtin_roundf(x))           \
  MSL_UNARY(trunc, __builtin_truncf(x))           \
  MSL_UNARY(fract, x - __builtin_floorf(x))       \
  MSL_BINARY(pow, __builtin_powf(x, y))           \
  MSL_BINARY(powr, __builtin_powf(x, y))          \
  MSL_BINARY(fmin, __builtin_fminf(x, y))         \
  MSL_BINARY(fmax, __builtin_fmaxf(x, y))         \
  MSL_BINARY(fmod, __builtin_fmodf(x, y))         \
  MSL_BINARY(copysign, __builtin_copysignf(x, y)) \
  MSL_BINARY(divide, x / y)
MSL_MATH
namespace precise {
MSL_MATH
}
namespace fast {
MSL_MATH
}
#undef MSL_MATH
#undef MSL_UNARY
#undef MSL_UNARY_OF
#undef MSL_BINARY
#undef MSL_BINARY_OF

template <class V>
inline msl::if_float<V> fma(V a, V b, V c) {
  return msl::map(
      [](auto x, auto y, auto z) {
        using T = decltype(x);
        if constexpr (msl::is_same<T, float>)
          return __builtin_fmaf(x, y, z);
        else
          return (T)(float)((double)x * (double)y + (double)z);
      },
      a, b, c);
}
template <class V>
inline V max(V a, V b) {
  return msl::map(
      [](auto x, auto y) {
        if constexpr (msl::is_float<decltype(x)>)
          return (decltype(x))__builtin_fmaxf((float)x, (float)y);
        else
          return x > y ? x : y;
      },
      a, b);
}
template <class V>
inline V min(V a, V b) {
  return msl::map(
      [](auto x, auto y) {
        if constexpr (msl::is_float<decltype(x)>)
          return (decltype(x))__builtin_fminf((float)x, (float)y);
        else
          return x < y ? x : y;
      },
      a, b);
}
template <class V>
inline V clamp(V v, V low, V high) {
  return min(max(v, low), high);
}
template <class V, class L, class H>
inline V clamp(V v, L low, H high) {
  return min(max(v, (V)low), (V)high);
}
template <class V>
inline V abs(V v) {
  return msl::map([](auto x) { return (decltype(x))(x < 0 ? -x : x); }, v);
}
template <class V>
inline V sign(V v) {
  return msl::map([](auto x) { return (decltype(x))(x > 0 ? 1 : x < 0 ? -1 : 0); }, v);
}
template <class V>
inline V saturate(V v) {
  return msl::map([](auto x) { return (decltype(x))((float)x < 0 ? 0 : (float)x > 1 ? 1 : (float)x); }, v);
}
template <class V>
inline V mix(V a, V b, V t) {
  return a + (b - a) * t;
}
template <class V>
inline auto dot(V a, V b) -> msl::element<V> {
  static_assert(msl::is_float<msl::element<V>>, "MSL: dot() takes floating-point vectors only");
  auto sum = a[0] * b[0];
  for (int i = 1; i < msl::traits<V>::n; i++) sum += a[i] * b[i];
  return sum;
}
template <class V>
inline msl::element<V> length(V v) {
  return (msl::element<V>)__builtin_sqrtf((float)dot(v, v));
}

template <class V>
inline V select(V a, V b, bool condition) {
  return condition ? b : a;
}
template <class V, class C>
inline V select(V a, V b, C condition) {
  V result;
  for (int i = 0; i < msl::traits<V>::n; i++) result[i] = condition[i] ? b[i] : a[i];
  return result;
}
template <class C>
inline bool any(C condition) {
  bool result = false;
  for (int i = 0; i < msl::traits<C>::n; i++) result |= condition[i] != 0;
  return result;
}
template <class C>
inline bool all(C condition) {
  bool result = true;
  for (int i = 0; i < msl::traits<C>::n; i++) result &= condition[i] != 0;
  return result;
}

inline bool isnan(float x) { return __builtin_isnan(x); }
inline bool isnan(half x) { return __builtin_isnan((float)x); }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isinf(half x) { return __builtin_isinf((float)x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }
inline bool isfinite(half x) { return __builtin_isfinite((float)x); }

// Matrices of columns.
template <class T, int C, int R>
struct matrix {
  vec<T, R> columns[C];
  matrix() {}
  explicit matrix(T diagonal) {
    for (int i = 0; i < C; i++)
      for (int j = 0; j < R; j++) columns[i][j] = i == j ? diagonal : (T)0;
  }
  vec<T, R>& operator[](int i) { return columns[i]; }
  const vec<T, R>& operator[](int i) const { return columns[i]; }
};

}  // namespace metal

typedef metal::matrix<float, 4, 4> float4x4;
typedef metal::matrix<half, 4, 4> half4x4;
typedef metal::matrix<float, 2, 2> float2x2;
typedef metal::matrix<float, 3, 3> float3x3;
