// 8x8 matrices that the lanes of a simdgroup hold together: each lane two neighbours of one row.
#pragma once
#pragma clang system_header

namespace metal {

template <class T, int R, int C>
struct simdgroup_matrix {
  static_assert(R == 8 && C == 8, "MSL: only 8x8 simdgroup matrices exist");
  vec<T, 2> elements;

  simdgroup_matrix() { elements = (T)__builtin_nanf(""); }  // anything on a GPU
  explicit simdgroup_matrix(T diagonal) {
    uint row, column;
    place(row, column);
    elements[0] = row == column ? diagonal : (T)0;
    elements[1] = row == column + 1 ? diagonal : (T)0;
  }
  vec<T, 2>& thread_elements() { return elements; }

  // Row and first column of the calling lane's two elements; seen on Apple's GPUs, not promised by MSL.
  static void place(uint& row, uint& column) {
    const uint lane = msl_lane(), quad = lane / 4;
    row = (quad & 4) + (lane / 2) % 4;
    column = (quad & 2) * 2 + (lane % 2) * 2;
  }
  static uint lane_of(uint row, uint column) {
    return (row & 4) << 2 | (column & 4) << 1 | (row & 3) << 1 | (column >> 1 & 1);
  }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <class T, int R, int C = 8>
inline simdgroup_matrix<T, R, C> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, R, C> m;
  m.elements = value;
  return m;
}

#define MSL_MATRIX_MEMORY(space)                                                                                               \
  template <class T>                                                                                                           \
  inline void simdgroup_load(simdgroup_matrix<T, 8, 8>& m, const space T* p, ulong elements_per_row = 8, ulong2 origin = 0,    \
                             bool transpose = false) {                                                                         \
    uint row, column;                                                                                                          \
    m.place(row, column);                                                                                                      \
    for (uint k = 0; k < 2; k++) {                                                                                             \
      const ulong x = transpose ? row : column + k, y = transpose ? column + k : row;                                          \
      m.elements[k] = p[(origin.y + y) * elements_per_row + origin.x + x];                                                     \
    }                                                                                                                          \
  }                                                                                                                            \
  template <class T>                                                                                                           \
  inline void simdgroup_store(simdgroup_matrix<T, 8, 8> m, space T* p, ulong elements_per_row = 8, ulong2 origin = 0,          \
                              bool transpose = false) {                                                                        \
    uint row, column;                                                                                                          \
    m.place(row, column);                                                                                                      \
    for (uint k = 0; k < 2; k++) {                                                                                             \
      const ulong x = transpose ? row : column + k, y = transpose ? column + k : row;                                          \
      p[(origin.y + y) * elements_per_row + origin.x + x] = m.elements[k];                                                     \
    }                                                                                                                          \
  }
MSL_MATRIX_MEMORY(device)
#ifdef MSL_ADDRESS_SPACES
MSL_MATRIX_MEMORY(threadgroup)
#endif
#undef MSL_MATRIX_MEMORY

// d = a b + c, accumulated in float.
template <class D, class A, class B, class C>
inline void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b,
                                          simdgroup_matrix<C, 8, 8> c, uint line = __builtin_LINE()) {
  struct Pair {
    vec<A, 2> a;
    vec<B, 2> b;
  } mine = {a.elements, b.elements};
  static_assert(sizeof mine <= msl::kSlotBytes, "larger than a slot");
  msl::Exchange e = msl_simd_exchange(&mine, sizeof mine, 20, line);
  const auto of = [&](uint lane) { return (const Pair*)((const char*)e.slots + lane * msl::kSlotBytes); };
  uint row, column;
  a.place(row, column);
  float sum0 = (float)c.elements[0], sum1 = (float)c.elements[1];
  for (uint k = 0; k < 8; k++) {
    const float left = (float)of(a.lane_of(row, k))->a[k & 1];
    const Pair* right = of(a.lane_of(k, column));
    sum0 = __builtin_fmaf(left, (float)right->b[0], sum0);
    sum1 = __builtin_fmaf(left, (float)right->b[1], sum1);
  }
  d.elements[0] = (D)sum0;
  d.elements[1] = (D)sum1;
}
template <class D, class A, class B>
inline void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b,
                               uint line = __builtin_LINE()) {
  simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<D, 8>((D)0), line);
}

}  // namespace metal
