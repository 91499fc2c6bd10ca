// What the vocabularies of AVX2 and AVX-512 have in common: sixteen bytes in one register.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

struct B16 { __m128i v; };

inline B16 load16(const void* p) { return {_mm_loadu_si128(static_cast<const __m128i*>(p))}; }
inline void store16(void* p, B16 a) { _mm_storeu_si128(static_cast<__m128i*>(p), a.v); }
inline B16 set_words(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return {_mm_setr_epi32(static_cast<int>(a), static_cast<int>(b), static_cast<int>(c), static_cast<int>(d))};
}
inline B16 and_(B16 a, B16 b) { return {_mm_and_si128(a.v, b.v)}; }
inline B16 or_(B16 a, B16 b) { return {_mm_or_si128(a.v, b.v)}; }
// The four words named.
template <int a, int b, int c, int d>
inline B16 words(B16 x) { return {_mm_shuffle_epi32(x.v, _MM_SHUFFLE(d, c, b, a))}; }
// Each word shifted to the right by its own number of bits.
template <int a, int b, int c, int d>
inline B16 shift_words(B16 x) { return {_mm_srlv_epi32(x.v, _mm_setr_epi32(a, b, c, d))}; }

// Eight halves, `stride` bytes apart.
template <size_t stride>
inline __m128i strided_halves8(const uint16_t* first) {
  const auto half = [&](size_t i) {
    uint16_t bits;
    std::memcpy(&bits, reinterpret_cast<const char*>(first) + i * stride, 2);
    return static_cast<int>(bits);
  };
  __m128i x = _mm_cvtsi32_si128(half(0));
  x = _mm_insert_epi16(x, half(1), 1);
  x = _mm_insert_epi16(x, half(2), 2);
  x = _mm_insert_epi16(x, half(3), 3);
  x = _mm_insert_epi16(x, half(4), 4);
  x = _mm_insert_epi16(x, half(5), 5);
  x = _mm_insert_epi16(x, half(6), 6);
  return _mm_insert_epi16(x, half(7), 7);
}
inline __m128i load_two_halves(const uint16_t* p) {
  int word;
  std::memcpy(&word, p, 4);
  return _mm_cvtsi32_si128(word);
}

inline float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
inline float half_to_f32(uint16_t bits) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits))); }

}  // namespace
