// The 16-lane vocabulary of kernels_body.h for AVX-512 with VNNI: one register per value.
// B64 is 64 bytes; in an I32x16 made by a dot product, lane l holds the sum over bytes 4l..4l+3.
#pragma once

#include "cpu/simd_x86.h"

namespace {

constexpr const char* kIsaName = "avx512-vnni";
constexpr int kTokensAtOnce = 8;        // rows of activations that a matrix-matrix tile keeps in registers
constexpr int kFloatTokensAtOnce = 8;   // the same of float32 weights
constexpr int kDotTokens = 4;           // tokens that share a decoded row: 2 or 4
constexpr uint32_t kTileTokensInt8 = 5, kTileTokensF32 = 8;  // see Kernels
constexpr size_t kPrefetchBytes = 6144;  // see prefetch_ahead
constexpr bool kOffsetSignedTile = true;  // tiles hold signed codes as code + 128: vpdpbusd wants unsigned weights

struct F32x16 { __m512 v; };
struct I32x16 { __m512i v; };
struct B64 { __m512i v; };

inline F32x16 zero() { return {_mm512_setzero_ps()}; }
inline F32x16 set1(float x) { return {_mm512_set1_ps(x)}; }
// Lanes 0-7 low, 8-15 high.
inline F32x16 set2(float low, float high) {
  return {_mm512_mask_blend_ps(0xff00, _mm512_set1_ps(low), _mm512_set1_ps(high))};
}
inline F32x16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, F32x16 a) { _mm512_storeu_ps(p, a.v); }
inline F32x16 load_half(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline F32x16 load_bfloat(const uint16_t* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
// Lanes 0-7 p[0], 8-15 p[1].
inline F32x16 two_halves(const uint16_t* p) {
  const __m512i which = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  return {_mm512_permutexvar_ps(which, _mm512_castps128_ps512(_mm_cvtph_ps(load_two_halves(p))))};
}
// Lanes 0-7 from `low` on, 8-15 from `high` on, `stride` bytes apart.
template <size_t stride>
inline F32x16 strided_halves(const uint16_t* low, const uint16_t* high) {
  return {_mm512_cvtph_ps(_mm256_set_m128i(strided_halves8<stride>(high), strided_halves8<stride>(low)))};
}
inline F32x16 widen_unsigned(B16 a) { return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(a.v))}; }
inline F32x16 widen_signed(B16 a) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(a.v))}; }

inline F32x16 add(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32x16 sub(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32x16 mul(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32x16 div(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F32x16 fma(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F32x16 max(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F32x16 min(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F32x16 abs(F32x16 a) { return {_mm512_abs_ps(a.v)}; }
inline F32x16 round(F32x16 a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline F32x16 ldexp(F32x16 a, F32x16 n) { return {_mm512_scalef_ps(a.v, n.v)}; }
inline float sum(F32x16 a) { return _mm512_reduce_add_ps(a.v); }
inline float highest(F32x16 a) { return _mm512_reduce_max_ps(a.v); }
// Lanes 8-15 of b added to a's.
inline F32x16 add_high_half(F32x16 a, F32x16 b) { return {_mm512_mask_add_ps(a.v, 0xff00, a.v, b.v)}; }
inline F32x16 to_float(I32x16 a) { return {_mm512_cvtepi32_ps(a.v)}; }
// 16 floats in -127..127, rounded to the nearest, as bytes.
inline void store_bytes(int8_t* p, F32x16 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v)));
}

// What expand8 and expand4 repeat lanes of.
using Lanes = F32x16;
inline Lanes lanes(F32x16 a) { return a; }
// Lanes 0-7 from lane 2c, 8-15 from lane 2c + 1.
template <int c>
inline F32x16 expand8(F32x16 a) {
  return {_mm512_permutexvar_ps(_mm512_set_epi32(2 * c + 1, 2 * c + 1, 2 * c + 1, 2 * c + 1, 2 * c + 1, 2 * c + 1, 2 * c + 1,
                                                 2 * c + 1, 2 * c, 2 * c, 2 * c, 2 * c, 2 * c, 2 * c, 2 * c, 2 * c),
                                a.v)};
}
// Lanes 0-3 from lane 4c, 4-7 from 4c + 1, ...
template <int c>
inline F32x16 expand4(F32x16 a) {
  return {_mm512_permutexvar_ps(_mm512_set_epi32(4 * c + 3, 4 * c + 3, 4 * c + 3, 4 * c + 3, 4 * c + 2, 4 * c + 2, 4 * c + 2,
                                                 4 * c + 2, 4 * c + 1, 4 * c + 1, 4 * c + 1, 4 * c + 1, 4 * c, 4 * c, 4 * c,
                                                 4 * c),
                                a.v)};
}

// Lane l: byte j of words[l], as a number.
template <int j>
inline F32x16 unsigned_bytes(const uint32_t* words) {
  const __m512i shifted = _mm512_srli_epi32(_mm512_loadu_si512(words), 8 * j);
  return {_mm512_cvtepi32_ps(_mm512_and_si512(shifted, _mm512_set1_epi32(255)))};
}
template <int j>
inline F32x16 signed_bytes(const uint32_t* words) {
  return {_mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(_mm512_loadu_si512(words), 24 - 8 * j), 24))};
}

inline I32x16 zero_i32() { return {_mm512_setzero_si512()}; }
inline B64 load_bytes(const void* p) { return {_mm512_loadu_si512(p)}; }
inline void store_bytes64(void* p, B64 a) { _mm512_storeu_si512(p, a.v); }
inline B64 broadcast4(const int8_t* p) {
  int32_t word;
  std::memcpy(&word, p, 4);
  return {_mm512_set1_epi32(word)};
}
inline B64 set1_byte(int8_t x) { return {_mm512_set1_epi8(x)}; }
inline B64 or_(B64 a, B64 b) { return {_mm512_or_si512(a.v, b.v)}; }
inline B64 xor_(B64 a, B64 b) { return {_mm512_xor_si512(a.v, b.v)}; }
// No bit may leave its byte.
template <int n>
inline B64 shift_left(B64 a) { return {_mm512_slli_epi16(a.v, n)}; }
inline B64 load_bytes(const void* low, const void* high) {
  return {_mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(static_cast<const __m256i*>(low))),
                             _mm256_loadu_si256(static_cast<const __m256i*>(high)), 1)};
}
// (p[l] >> low) & mask for l < 32, then (p[l] >> high) & mask; shifts below zero are to the left, both or none.
template <int low, int high>
inline B64 unpack32(const uint8_t* p, uint8_t mask) {
  const __m512i twice = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  constexpr bool left = low < 0;
  static_assert(left == (high < 0));
  const __m512i shifts = _mm512_inserti64x4(_mm512_set1_epi16(left ? -low : low), _mm256_set1_epi16(left ? -high : high), 1);
  const __m512i moved = left ? _mm512_sllv_epi16(twice, shifts) : _mm512_srlv_epi16(twice, shifts);
  return {_mm512_and_si512(moved, _mm512_set1_epi8(static_cast<char>(mask)))};
}
// (p[l] >> shift) & mask for l < 64.
template <int shift>
inline B64 unpack64(const uint8_t* p, uint8_t mask) {
  return {_mm512_and_si512(_mm512_srli_epi16(_mm512_loadu_si512(p), shift), _mm512_set1_epi8(static_cast<char>(mask)))};
}
// Low nibbles of a[0..15], high nibbles of a, then the same of b.
inline B64 nibbles_2x16(const uint8_t* a, const uint8_t* b) {
  const __m128i xa = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a));
  const __m128i xb = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b));
  const __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_broadcastsi128_si256(xa)), _mm256_broadcastsi128_si256(xb), 1);
  const __m512i shifts = _mm512_set_epi64(0x0004000400040004, 0x0004000400040004, 0, 0, 0x0004000400040004, 0x0004000400040004, 0, 0);
  return {_mm512_and_si512(_mm512_srlv_epi16(all, shifts), _mm512_set1_epi8(15))};
}
// value where bit l of bits is set, 0 elsewhere.
inline B64 spread_bits(uint64_t bits, int8_t value) { return {_mm512_maskz_set1_epi8(bits, value)}; }
inline B64 lookup16(const int8_t* table, B64 index) {
  const __m512i t = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return {_mm512_shuffle_epi8(t, index.v)};
}

// sum + u . s with u in 0..127 here (tiles: 0..255), s in -127..127.
inline I32x16 dot_unsigned(I32x16 total, B64 u, B64 s) { return {_mm512_dpbusd_epi32(total.v, u.v, s.v)}; }
// sum + w . s with w in -128..127.
inline I32x16 dot_signed(I32x16 total, B64 w, B64 s) {
  const __m512i flipped = _mm512_mask_sub_epi8(s.v, _mm512_movepi8_mask(w.v), _mm512_setzero_si512(), s.v);
  return {_mm512_dpbusd_epi32(total.v, _mm512_abs_epi8(w.v), flipped)};
}

// Transposes 16 rows of 16 32-bit words; row i of the source at from + i * stride bytes.
inline void transpose16x16(const void* from, int stride, void* to) {
  __m512i r[16], t[16];
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(static_cast<const char*>(from) + i * stride);
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  char* out = static_cast<char*>(to);
  for (int i = 0; i < 4; ++i) {
    _mm512_storeu_si512(out + (i + 0) * 64, _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88));
    _mm512_storeu_si512(out + (i + 4) * 64, _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88));
    _mm512_storeu_si512(out + (i + 8) * 64, _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd));
    _mm512_storeu_si512(out + (i + 12) * 64, _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd));
  }
}

}  // namespace
