// The 16-lane vocabulary of kernels_body.h for AVX2 with FMA and F16C (and AVX-VNNI where the compiler targets it):
// two registers per value.
#pragma once

#include "cpu/simd_x86.h"

namespace {

#ifdef __AVXVNNI__
constexpr const char* kIsaName = "avx2-vnni";
#else
constexpr const char* kIsaName = "avx2";
#endif
constexpr int kDotTokens = 4;
constexpr uint32_t kTileTokensInt8 = 5, kTileTokensF32 = 8;
constexpr int kTokensAtOnce = 3;
constexpr int kFloatTokensAtOnce = 6;
constexpr size_t kPrefetchBytes = 6144;
constexpr bool kOffsetSignedTile = false;

struct F32x16 { __m256 v[2]; };
struct I32x16 { __m256i v[2]; };
struct B64 { __m256i v[2]; };

inline F32x16 zero() { return {{_mm256_setzero_ps(), _mm256_setzero_ps()}}; }
inline F32x16 set1(float x) { return {{_mm256_set1_ps(x), _mm256_set1_ps(x)}}; }
// Lanes 0-7 low, 8-15 high.
inline F32x16 set2(float low, float high) { return {{_mm256_set1_ps(low), _mm256_set1_ps(high)}}; }
inline F32x16 load(const float* p) { return {{_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}}; }
inline void store(float* p, F32x16 a) {
  _mm256_storeu_ps(p, a.v[0]);
  _mm256_storeu_ps(p + 8, a.v[1]);
}
inline F32x16 load_half(const uint16_t* p) {
  return {{_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
           _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))}};
}
inline __m256 load_bfloat8(const uint16_t* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline F32x16 load_bfloat(const uint16_t* p) { return {{load_bfloat8(p), load_bfloat8(p + 8)}}; }
// Lanes 0-7 p[0], 8-15 p[1].
inline F32x16 two_halves(const uint16_t* p) {
  const __m128 both = _mm_cvtph_ps(load_two_halves(p));
  return {{_mm256_broadcastss_ps(both), _mm256_broadcastss_ps(_mm_movehdup_ps(both))}};
}
// Lanes 0-7 from `low` on, 8-15 from `high` on, `stride` bytes apart.
template <size_t stride>
inline F32x16 strided_halves(const uint16_t* low, const uint16_t* high) {
  return {{_mm256_cvtph_ps(strided_halves8<stride>(low)), _mm256_cvtph_ps(strided_halves8<stride>(high))}};
}
inline F32x16 widen_unsigned(B16 a) {
  return {{_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(a.v)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(a.v, a.v)))}};
}
inline F32x16 widen_signed(B16 a) {
  return {{_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(a.v)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(a.v, a.v)))}};
}

inline F32x16 add(F32x16 a, F32x16 b) { return {{_mm256_add_ps(a.v[0], b.v[0]), _mm256_add_ps(a.v[1], b.v[1])}}; }
inline F32x16 sub(F32x16 a, F32x16 b) { return {{_mm256_sub_ps(a.v[0], b.v[0]), _mm256_sub_ps(a.v[1], b.v[1])}}; }
inline F32x16 mul(F32x16 a, F32x16 b) { return {{_mm256_mul_ps(a.v[0], b.v[0]), _mm256_mul_ps(a.v[1], b.v[1])}}; }
inline F32x16 div(F32x16 a, F32x16 b) { return {{_mm256_div_ps(a.v[0], b.v[0]), _mm256_div_ps(a.v[1], b.v[1])}}; }
inline F32x16 max(F32x16 a, F32x16 b) { return {{_mm256_max_ps(a.v[0], b.v[0]), _mm256_max_ps(a.v[1], b.v[1])}}; }
inline F32x16 min(F32x16 a, F32x16 b) { return {{_mm256_min_ps(a.v[0], b.v[0]), _mm256_min_ps(a.v[1], b.v[1])}}; }
inline F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
  return {{_mm256_fmadd_ps(a.v[0], b.v[0], c.v[0]), _mm256_fmadd_ps(a.v[1], b.v[1], c.v[1])}};
}
inline F32x16 abs(F32x16 a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {{_mm256_andnot_ps(sign, a.v[0]), _mm256_andnot_ps(sign, a.v[1])}};
}
inline F32x16 round(F32x16 a) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {{_mm256_round_ps(a.v[0], mode), _mm256_round_ps(a.v[1], mode)}};
}
inline __m256 ldexp8(__m256 a, __m256 n) {
  const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(a, _mm256_castsi256_ps(bits));
}
// n in -126..127.
inline F32x16 ldexp(F32x16 a, F32x16 n) { return {{ldexp8(a.v[0], n.v[0]), ldexp8(a.v[1], n.v[1])}}; }
inline float sum8(__m256 a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline float sum(F32x16 a) { return sum8(_mm256_add_ps(a.v[0], a.v[1])); }
// Lanes 8-15 of b added to a's.
inline F32x16 add_high_half(F32x16 a, F32x16 b) { return {{a.v[0], _mm256_add_ps(a.v[1], b.v[1])}}; }
inline float highest(F32x16 a) {
  const __m256 m = _mm256_max_ps(a.v[0], a.v[1]);
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
inline F32x16 to_float(I32x16 a) { return {{_mm256_cvtepi32_ps(a.v[0]), _mm256_cvtepi32_ps(a.v[1])}}; }
inline void store_bytes(int8_t* p, F32x16 a) {
  const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(a.v[0]), _mm256_cvtps_epi32(a.v[1]));  // 0-3 8-11 4-7 12-15
  const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

// In memory: a load that repeats a lane costs no shuffle.
struct Lanes { alignas(32) float v[16]; };
inline Lanes lanes(F32x16 a) {
  Lanes out;
  store(out.v, a);
  return out;
}
template <int c>
inline F32x16 expand8(const Lanes& a) { return {{_mm256_broadcast_ss(a.v + 2 * c), _mm256_broadcast_ss(a.v + 2 * c + 1)}}; }
inline __m256 expand_pair(const float* p) {
  double pair;
  std::memcpy(&pair, p, 8);
  return _mm256_permutevar_ps(_mm256_castpd_ps(_mm256_set1_pd(pair)), _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
}
template <int c>
inline F32x16 expand4(const Lanes& a) { return {{expand_pair(a.v + 4 * c), expand_pair(a.v + 4 * c + 2)}}; }

inline __m256i load32(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
// Lane l: byte j of words[l], as a number.
template <int j>
inline F32x16 unsigned_bytes(const uint32_t* words) {
  F32x16 out;
  for (int h = 0; h < 2; ++h) {
    const __m256i shifted = _mm256_srli_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words + 8 * h)), 8 * j);
    out.v[h] = _mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32(255)));
  }
  return out;
}
template <int j>
inline F32x16 signed_bytes(const uint32_t* words) {
  F32x16 out;
  for (int h = 0; h < 2; ++h) {
    const __m256i shifted = _mm256_slli_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words + 8 * h)), 24 - 8 * j);
    out.v[h] = _mm256_cvtepi32_ps(_mm256_srai_epi32(shifted, 24));
  }
  return out;
}

inline I32x16 zero_i32() { return {{_mm256_setzero_si256(), _mm256_setzero_si256()}}; }
inline B64 load_bytes(const void* p) { return {{load32(p), load32(static_cast<const char*>(p) + 32)}}; }
inline void store_bytes64(void* p, B64 a) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), a.v[0]);
  _mm256_storeu_si256(static_cast<__m256i*>(p) + 1, a.v[1]);
}
inline B64 broadcast4(const int8_t* p) {
  int32_t word;
  std::memcpy(&word, p, 4);
  return {{_mm256_set1_epi32(word), _mm256_set1_epi32(word)}};
}
inline B64 set1_byte(int8_t x) { return {{_mm256_set1_epi8(x), _mm256_set1_epi8(x)}}; }
inline B64 or_(B64 a, B64 b) { return {{_mm256_or_si256(a.v[0], b.v[0]), _mm256_or_si256(a.v[1], b.v[1])}}; }
inline B64 xor_(B64 a, B64 b) { return {{_mm256_xor_si256(a.v[0], b.v[0]), _mm256_xor_si256(a.v[1], b.v[1])}}; }
template <int n>
inline B64 shift_left(B64 a) { return {{_mm256_slli_epi16(a.v[0], n), _mm256_slli_epi16(a.v[1], n)}}; }
inline B64 load_bytes(const void* low, const void* high) { return {{load32(low), load32(high)}}; }
// To the right by n bits, to the left by -n.
template <int n>
inline __m256i shifted(__m256i x) {
  if constexpr (n < 0) return _mm256_slli_epi16(x, -n);
  else return _mm256_srli_epi16(x, n);
}
template <int low, int high>
inline B64 unpack32(const uint8_t* p, uint8_t mask) {
  const __m256i x = load32(p), m = _mm256_set1_epi8(static_cast<char>(mask));
  return {{_mm256_and_si256(shifted<low>(x), m), _mm256_and_si256(shifted<high>(x), m)}};
}
template <int shift>
inline B64 unpack64(const uint8_t* p, uint8_t mask) {
  const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
  return {{_mm256_and_si256(_mm256_srli_epi16(load32(p), shift), m),
           _mm256_and_si256(_mm256_srli_epi16(load32(p + 32), shift), m)}};
}
inline __m256i nibbles16(const uint8_t* p) {
  const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(x, 4), x), _mm256_set1_epi8(15));
}
inline B64 nibbles_2x16(const uint8_t* a, const uint8_t* b) { return {{nibbles16(a), nibbles16(b)}}; }
inline __m256i spread_bits32(uint32_t bits, int8_t value) {
  const __m256i from = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201ull));
  const __m256i x = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(bits)), from), bit);
  return _mm256_and_si256(_mm256_cmpeq_epi8(x, bit), _mm256_set1_epi8(value));
}
inline B64 spread_bits(uint64_t bits, int8_t value) {
  return {{spread_bits32(static_cast<uint32_t>(bits), value), spread_bits32(static_cast<uint32_t>(bits >> 32), value)}};
}
inline B64 lookup16(const int8_t* table, B64 index) {
  const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return {{_mm256_shuffle_epi8(t, index.v[0]), _mm256_shuffle_epi8(t, index.v[1])}};
}

inline __m256i dot32(__m256i total, __m256i u, __m256i s) {
#ifdef __AVXVNNI__
  return _mm256_dpbusd_avx_epi32(total, u, s);
#else
  // 128 * 127 * 2 fits 16 bits.
  return _mm256_add_epi32(total, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)));
#endif
}
inline I32x16 dot_unsigned(I32x16 total, B64 u, B64 s) {
  return {{dot32(total.v[0], u.v[0], s.v[0]), dot32(total.v[1], u.v[1], s.v[1])}};
}
inline I32x16 dot_signed(I32x16 total, B64 w, B64 s) {
  return {{dot32(total.v[0], _mm256_abs_epi8(w.v[0]), _mm256_sign_epi8(s.v[0], w.v[0])),
           dot32(total.v[1], _mm256_abs_epi8(w.v[1]), _mm256_sign_epi8(s.v[1], w.v[1]))}};
}

inline void transpose8x8(const char* from, int stride, char* to, int to_stride) {
  __m256 r[8], t[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm256_castsi256_ps(load32(from + i * stride));
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    const __m256 low = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20), high = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i * to_stride), _mm256_castps_si256(low));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + (i + 4) * to_stride), _mm256_castps_si256(high));
  }
}
inline void transpose16x16(const void* from, int stride, void* to) {
  const char* source = static_cast<const char*>(from);
  char* target = static_cast<char*>(to);
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) transpose8x8(source + i * 8 * stride + j * 32, stride, target + j * 8 * 64 + i * 32, 64);
}

}  // namespace
