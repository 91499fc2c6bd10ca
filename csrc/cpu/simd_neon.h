// The 16-lane vocabulary of kernels_body.h for arm64 with the dot-product instructions: four registers per value.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace {

constexpr const char* kIsaName = "neon-dotprod";
constexpr int kDotTokens = 2;
constexpr uint32_t kTileTokensInt8 = 6, kTileTokensF32 = 6;  // not timed yet
constexpr int kTokensAtOnce = 2;
constexpr int kFloatTokensAtOnce = 4;
constexpr size_t kPrefetchBytes = 0;  // not timed yet
constexpr bool kOffsetSignedTile = false;

struct F32x16 { float32x4_t v[4]; };
struct I32x16 { int32x4_t v[4]; };
struct B64 { uint8x16_t v[4]; };

inline F32x16 set1(float x) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vdupq_n_f32(x);
  return out;
}
inline F32x16 zero() { return set1(0); }
// Lanes 0-7 low, 8-15 high.
inline F32x16 set2(float low, float high) {
  return {{vdupq_n_f32(low), vdupq_n_f32(low), vdupq_n_f32(high), vdupq_n_f32(high)}};
}
inline F32x16 load(const float* p) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vld1q_f32(p + 4 * i);
  return out;
}
inline void store(float* p, F32x16 a) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, a.v[i]);
}
inline float square_root(float x) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0); }
inline float half_to_f32(uint16_t bits) {
  return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))), 0);
}
inline F32x16 load_half(const uint16_t* p) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)));
  return out;
}
// Lanes 0-7 p[0], 8-15 p[1].
inline F32x16 two_halves(const uint16_t* p) {
  const float32x4_t a = vdupq_n_f32(half_to_f32(p[0])), b = vdupq_n_f32(half_to_f32(p[1]));
  return {{a, a, b, b}};
}
// Lanes 0-7 from `low` on, 8-15 from `high` on, `stride` bytes apart.
template <size_t stride>
inline float32x4_t strided_halves4(const uint16_t* first) {
  uint16x4_t x = vdup_n_u16(0);
  const auto half = [&](size_t i) { return reinterpret_cast<const uint16_t*>(reinterpret_cast<const char*>(first) + i * stride); };
  x = vld1_lane_u16(half(0), x, 0);
  x = vld1_lane_u16(half(1), x, 1);
  x = vld1_lane_u16(half(2), x, 2);
  x = vld1_lane_u16(half(3), x, 3);
  return vcvt_f32_f16(vreinterpret_f16_u16(x));
}
template <size_t stride>
inline F32x16 strided_halves(const uint16_t* low, const uint16_t* high) {
  const auto later = [](const uint16_t* p) { return reinterpret_cast<const uint16_t*>(reinterpret_cast<const char*>(p) + 4 * stride); };
  return {{strided_halves4<stride>(low), strided_halves4<stride>(later(low)), strided_halves4<stride>(high),
           strided_halves4<stride>(later(high))}};
}
inline F32x16 load_bfloat(const uint16_t* p) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16));
  return out;
}
inline F32x16 add(F32x16 a, F32x16 b) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vaddq_f32(a.v[i], b.v[i]);
  return out;
}
inline F32x16 sub(F32x16 a, F32x16 b) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vsubq_f32(a.v[i], b.v[i]);
  return out;
}
inline F32x16 mul(F32x16 a, F32x16 b) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vmulq_f32(a.v[i], b.v[i]);
  return out;
}
inline F32x16 div(F32x16 a, F32x16 b) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vdivq_f32(a.v[i], b.v[i]);
  return out;
}
inline F32x16 max(F32x16 a, F32x16 b) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vmaxq_f32(a.v[i], b.v[i]);
  return out;
}
inline F32x16 min(F32x16 a, F32x16 b) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vminq_f32(a.v[i], b.v[i]);
  return out;
}
inline F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vfmaq_f32(c.v[i], a.v[i], b.v[i]);
  return out;
}
inline F32x16 abs(F32x16 a) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vabsq_f32(a.v[i]);
  return out;
}
inline F32x16 round(F32x16 a) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vrndnq_f32(a.v[i]);
  return out;
}
// n in -126..127.
inline F32x16 ldexp(F32x16 a, F32x16 n) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vmulq_f32(a.v[i], vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n.v[i]), vdupq_n_s32(127)), 23)));
  return out;
}
inline float sum(F32x16 a) { return vaddvq_f32(vaddq_f32(vaddq_f32(a.v[0], a.v[1]), vaddq_f32(a.v[2], a.v[3]))); }
// Lanes 8-15 of b added to a's.
inline F32x16 add_high_half(F32x16 a, F32x16 b) {
  return {{a.v[0], a.v[1], vaddq_f32(a.v[2], b.v[2]), vaddq_f32(a.v[3], b.v[3])}};
}
inline float highest(F32x16 a) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.v[0], a.v[1]), vmaxq_f32(a.v[2], a.v[3]))); }
inline F32x16 to_float(I32x16 a) {
  F32x16 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vcvtq_f32_s32(a.v[i]);
  return out;
}
inline void store_bytes(int8_t* p, F32x16 a) {
  int16x4_t words[4];
  for (int i = 0; i < 4; ++i) words[i] = vqmovn_s32(vcvtnq_s32_f32(a.v[i]));
  vst1q_s8(p, vcombine_s8(vqmovn_s16(vcombine_s16(words[0], words[1])), vqmovn_s16(vcombine_s16(words[2], words[3]))));
}

struct B16 { uint8x16_t v; };
inline B16 load16(const void* p) { return {vld1q_u8(static_cast<const uint8_t*>(p))}; }
inline void store16(void* p, B16 a) { vst1q_u8(static_cast<uint8_t*>(p), a.v); }
inline uint32x4_t four_words(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return vcombine_u32(vcreate_u32(a | static_cast<uint64_t>(b) << 32), vcreate_u32(c | static_cast<uint64_t>(d) << 32));
}
inline B16 set_words(uint32_t a, uint32_t b, uint32_t c, uint32_t d) { return {vreinterpretq_u8_u32(four_words(a, b, c, d))}; }
inline B16 and_(B16 a, B16 b) { return {vandq_u8(a.v, b.v)}; }
inline B16 or_(B16 a, B16 b) { return {vorrq_u8(a.v, b.v)}; }
// The four words named.
template <int a, int b, int c, int d>
inline B16 words(B16 x) {
  constexpr auto bytes = [](uint32_t word) { return 0x03020100u + 0x04040404u * word; };
  return {vqtbl1q_u8(x.v, vreinterpretq_u8_u32(four_words(bytes(a), bytes(b), bytes(c), bytes(d))))};
}
// Each word shifted to the right by its own number of bits.
template <int a, int b, int c, int d>
inline B16 shift_words(B16 x) {
  const int32x4_t left = vnegq_s32(vreinterpretq_s32_u32(four_words(a, b, c, d)));
  return {vreinterpretq_u8_u32(vshlq_u32(vreinterpretq_u32_u8(x.v), left))};
}
inline F32x16 widen_unsigned(B16 a) {
  const uint16x8_t low = vmovl_u8(vget_low_u8(a.v)), high = vmovl_u8(vget_high_u8(a.v));
  return {{vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(low))),
           vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(high)))}};
}
inline F32x16 widen_signed(B16 a) {
  const int8x16_t x = vreinterpretq_s8_u8(a.v);
  const int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_s8(vget_high_s8(x));
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}

using Lanes = F32x16;
inline Lanes lanes(F32x16 a) { return a; }
template <int c>
inline F32x16 expand8(F32x16 a) {
  const float32x4_t first = vdupq_laneq_f32(a.v[2 * c / 4], 2 * c % 4);
  const float32x4_t second = vdupq_laneq_f32(a.v[(2 * c + 1) / 4], (2 * c + 1) % 4);
  return {{first, first, second, second}};
}
template <int c>
inline F32x16 expand4(F32x16 a) {
  return {{vdupq_laneq_f32(a.v[c], 0), vdupq_laneq_f32(a.v[c], 1), vdupq_laneq_f32(a.v[c], 2), vdupq_laneq_f32(a.v[c], 3)}};
}

// Lane l: byte j of words[l], as a number.
template <int j>
inline F32x16 unsigned_bytes(const uint32_t* words) {
  F32x16 out;
  for (int i = 0; i < 4; ++i)
    out.v[i] = vcvtq_f32_u32(vshrq_n_u32(vshlq_n_u32(vld1q_u32(words + 4 * i), 24 - 8 * j), 24));
  return out;
}
template <int j>
inline F32x16 signed_bytes(const uint32_t* words) {
  F32x16 out;
  for (int i = 0; i < 4; ++i)
    out.v[i] = vcvtq_f32_s32(vshrq_n_s32(vreinterpretq_s32_u32(vshlq_n_u32(vld1q_u32(words + 4 * i), 24 - 8 * j)), 24));
  return out;
}

inline I32x16 zero_i32() { return {{vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)}}; }
inline B64 load_bytes(const void* p) {
  const auto* bytes = static_cast<const uint8_t*>(p);
  return {{vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)}};
}
inline void store_bytes64(void* p, B64 a) {
  for (int i = 0; i < 4; ++i) vst1q_u8(static_cast<uint8_t*>(p) + 16 * i, a.v[i]);
}
inline B64 broadcast4(const int8_t* p) {
  uint32_t word;
  std::memcpy(&word, p, 4);
  const uint8x16_t all = vreinterpretq_u8_u32(vdupq_n_u32(word));
  return {{all, all, all, all}};
}
inline B64 set1_byte(int8_t x) {
  B64 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vreinterpretq_u8_s8(vdupq_n_s8(x));
  return out;
}
inline B64 or_(B64 a, B64 b) {
  B64 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vorrq_u8(a.v[i], b.v[i]);
  return out;
}
inline B64 xor_(B64 a, B64 b) {
  B64 out;
  for (int i = 0; i < 4; ++i) out.v[i] = veorq_u8(a.v[i], b.v[i]);
  return out;
}
template <int n>
inline B64 shift_left(B64 a) {
  B64 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vshlq_n_u8(a.v[i], n);
  return out;
}
inline B64 load_bytes(const void* low, const void* high) {
  const auto *a = static_cast<const uint8_t*>(low), *b = static_cast<const uint8_t*>(high);
  return {{vld1q_u8(a), vld1q_u8(a + 16), vld1q_u8(b), vld1q_u8(b + 16)}};
}
template <int n>
inline uint8x16_t shifted(uint8x16_t x, uint8_t mask) {
  if constexpr (n > 0) x = vshrq_n_u8(x, n);
  if constexpr (n < 0) x = vshlq_n_u8(x, -n);
  return vandq_u8(x, vdupq_n_u8(mask));
}
template <int low, int high>
inline B64 unpack32(const uint8_t* p, uint8_t mask) {
  const uint8x16_t a = vld1q_u8(p), b = vld1q_u8(p + 16);
  return {{shifted<low>(a, mask), shifted<low>(b, mask), shifted<high>(a, mask), shifted<high>(b, mask)}};
}
template <int shift>
inline B64 unpack64(const uint8_t* p, uint8_t mask) {
  B64 out;
  for (int i = 0; i < 4; ++i) out.v[i] = shifted<shift>(vld1q_u8(p + 16 * i), mask);
  return out;
}
inline B64 nibbles_2x16(const uint8_t* a, const uint8_t* b) {
  const uint8x16_t xa = vld1q_u8(a), xb = vld1q_u8(b);
  return {{shifted<0>(xa, 15), shifted<4>(xa, 15), shifted<0>(xb, 15), shifted<4>(xb, 15)}};
}
inline B64 spread_bits(uint64_t bits, int8_t value) {
  const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201ull));
  B64 out;
  for (int i = 0; i < 4; ++i) {
    const uint8x16_t bytes = vcombine_u8(vdup_n_u8(static_cast<uint8_t>(bits >> (16 * i))),
                                         vdup_n_u8(static_cast<uint8_t>(bits >> (16 * i + 8))));
    out.v[i] = vandq_u8(vtstq_u8(bytes, bit), vreinterpretq_u8_s8(vdupq_n_s8(value)));
  }
  return out;
}
inline B64 lookup16(const int8_t* table, B64 index) {
  const uint8x16_t t = vreinterpretq_u8_s8(vld1q_s8(table));
  B64 out;
  for (int i = 0; i < 4; ++i) out.v[i] = vqtbl1q_u8(t, index.v[i]);
  return out;
}

inline I32x16 dot_signed(I32x16 total, B64 w, B64 s) {
  for (int i = 0; i < 4; ++i)
    total.v[i] = vdotq_s32(total.v[i], vreinterpretq_s8_u8(w.v[i]), vreinterpretq_s8_u8(s.v[i]));
  return total;
}
// Unsigned codes are at most 63 here.
inline I32x16 dot_unsigned(I32x16 total, B64 u, B64 s) { return dot_signed(total, u, s); }

inline void transpose4x4(const char* from, int stride, char* to, int to_stride) {
  uint32x4_t r[4];
  for (int i = 0; i < 4; ++i) r[i] = vld1q_u32(reinterpret_cast<const uint32_t*>(from + i * stride));
  const uint32x4x2_t a = vtrnq_u32(r[0], r[1]), b = vtrnq_u32(r[2], r[3]);
  vst1q_u32(reinterpret_cast<uint32_t*>(to), vcombine_u32(vget_low_u32(a.val[0]), vget_low_u32(b.val[0])));
  vst1q_u32(reinterpret_cast<uint32_t*>(to + to_stride), vcombine_u32(vget_low_u32(a.val[1]), vget_low_u32(b.val[1])));
  vst1q_u32(reinterpret_cast<uint32_t*>(to + 2 * to_stride), vcombine_u32(vget_high_u32(a.val[0]), vget_high_u32(b.val[0])));
  vst1q_u32(reinterpret_cast<uint32_t*>(to + 3 * to_stride), vcombine_u32(vget_high_u32(a.val[1]), vget_high_u32(b.val[1])));
}
inline void transpose16x16(const void* from, int stride, void* to) {
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j)
      transpose4x4(static_cast<const char*>(from) + i * 4 * stride + j * 16, stride,
                   static_cast<char*>(to) + j * 4 * 64 + i * 16, 64);
}

}  // namespace
