// Block layouts of the GGUF weight formats: the one definition every backend reads.
//
// Valid as C++20 and as Metal Shading Language; the WGSL constants are printed from the sizeof/offsetof of these
// structs. All fields are little-endian. `half_bits` holds an IEEE binary16 as its bit pattern, so that the file's
// bytes can be used in place (MSL: as_type<half>(x), C++: half_to_float(x) in half.h). Every struct is 2-byte aligned
// and has no padding.
//
// Format facts: the ggml type table and the block formats of the GGUF ecosystem
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). The formulas below are checked against the `gguf`
// package.
//
// Notation: y[i] is the value i of a block, q its unsigned code; s and m are per-sub-block integers.
#pragma once

#ifdef __METAL_VERSION__
#include <metal_stdlib>
#define RWKVNATIVE_CONSTANT constant
namespace rwkvnative {
typedef uchar quant_u8;
typedef char quant_i8;
typedef ushort quant_u16;
typedef ushort half_bits;
#else
#include <cstdint>
#define RWKVNATIVE_CONSTANT inline constexpr
namespace rwkvnative {
using quant_u8 = std::uint8_t;
using quant_i8 = std::int8_t;
using quant_u16 = std::uint16_t;
using half_bits = std::uint16_t;
#endif

/// Values in a block of the simple formats (Q4_0 ... Q8_0, IQ4_NL).
RWKVNATIVE_CONSTANT int kSmallBlockValues = 32;
/// Values in a super-block of the K formats and IQ4_XS.
RWKVNATIVE_CONSTANT int kSuperBlockValues = 256;

// ---- blocks of 32
//
// 4-bit codes: value i in 0..15 is the low nibble of qs[i], value i + 16 its high nibble.
// 5-bit codes: the fifth bit of value i is bit i of the little-endian 32-bit word qh.

/// y = d * (q - 8), q in 0..15.
struct block_q4_0 {
  half_bits d;
  quant_u8 qs[16];
};
static_assert(sizeof(block_q4_0) == 18, "GGUF: Q4_0 is 18 bytes");

/// y = d * q + m, q in 0..15.
struct block_q4_1 {
  half_bits d;
  half_bits m;
  quant_u8 qs[16];
};
static_assert(sizeof(block_q4_1) == 20, "GGUF: Q4_1 is 20 bytes");

/// y = d * (q - 16), q in 0..31.
struct block_q5_0 {
  half_bits d;
  quant_u8 qh[4];
  quant_u8 qs[16];
};
static_assert(sizeof(block_q5_0) == 22, "GGUF: Q5_0 is 22 bytes");

/// y = d * q + m, q in 0..31.
struct block_q5_1 {
  half_bits d;
  half_bits m;
  quant_u8 qh[4];
  quant_u8 qs[16];
};
static_assert(sizeof(block_q5_1) == 24, "GGUF: Q5_1 is 24 bytes");

/// y = d * q, q in -128..127, in order.
struct block_q8_0 {
  half_bits d;
  quant_i8 qs[32];
};
static_assert(sizeof(block_q8_0) == 34, "GGUF: Q8_0 is 34 bytes");

/// y = d * kIq4Codebook[q], q in 0..15.
struct block_iq4_nl {
  half_bits d;
  quant_u8 qs[16];
};
static_assert(sizeof(block_iq4_nl) == 18, "GGUF: IQ4_NL is 18 bytes");

// ---- super-blocks of 256

/// y = d * s * q - dmin * m; q in 0..3; per 16 values: s = scales & 15, m = scales >> 4.
/// Code of value 128 n + 32 j + l (n < 2, j < 4, l < 32): bits 2j..2j+1 of qs[32 n + l].
struct block_q2_k {
  quant_u8 scales[16];
  quant_u8 qs[64];
  half_bits d;
  half_bits dmin;
};
static_assert(sizeof(block_q2_k) == 84, "GGUF: Q2_K is 84 bytes");

/// y = d * (s - 32) * (q - 4); q in 0..7; s in 0..63 per 16 values.
/// Low two bits of a code as in Q2_K; its high bit for value 32 j + l (j < 8, l < 32) is bit j of hmask[l].
/// s of sub-block j: low four bits in nibble j / 8 of scales[j % 8], high two bits at bit 2 (j / 4) of scales[8 + j %
/// 4].
struct block_q3_k {
  quant_u8 hmask[32];
  quant_u8 qs[64];
  quant_u8 scales[12];
  half_bits d;
};
static_assert(sizeof(block_q3_k) == 110, "GGUF: Q3_K is 110 bytes");

/// y = d * s * q - dmin * m; q in 0..15; s and m in 0..63 per 32 values.
/// Code of value 64 n + 32 j + l (n < 4, j < 2, l < 32): nibble j of qs[32 n + l].
/// Sub-block j < 4: s = scales[j] & 63, m = scales[j + 4] & 63. j >= 4: s = (scales[j + 4] & 15) | (scales[j - 4] >> 6)
/// << 4, m = (scales[j + 4] >> 4) | (scales[j] >> 6) << 4.
struct block_q4_k {
  half_bits d;
  half_bits dmin;
  quant_u8 scales[12];
  quant_u8 qs[128];
};
static_assert(sizeof(block_q4_k) == 144, "GGUF: Q4_K is 144 bytes");

/// y = d * s * q - dmin * m; q in 0..31; scales and the low four bits as in Q4_K.
/// The fifth bit of value 32 j + l (j < 8, l < 32) is bit j of qh[l].
struct block_q5_k {
  half_bits d;
  half_bits dmin;
  quant_u8 scales[12];
  quant_u8 qh[32];
  quant_u8 qs[128];
};
static_assert(sizeof(block_q5_k) == 176, "GGUF: Q5_K is 176 bytes");

/// y = d * s * (q - 32); q in 0..63; s in -128..127 per 16 values.
/// For value 128 n + 32 j + l (n < 2, j < 4, l < 32): low four bits are nibble j / 2 of ql[64 n + 32 (j % 2) + l],
/// high two bits are bits 2j..2j+1 of qh[32 n + l].
struct block_q6_k {
  quant_u8 ql[128];
  quant_u8 qh[64];
  quant_i8 scales[16];
  half_bits d;
};
static_assert(sizeof(block_q6_k) == 210, "GGUF: Q6_K is 210 bytes");

/// y = d * (s - 32) * kIq4Codebook[q]; q in 0..15; s in 0..63 per 32 values.
/// Sub-block j (j < 8): codes as in IQ4_NL in qs[16 j ...]; s: low four bits in nibble j % 2 of scales_l[j / 2],
/// high two bits at bit 2j of scales_h.
struct block_iq4_xs {
  half_bits d;
  quant_u16 scales_h;
  quant_u8 scales_l[4];
  quant_u8 qs[128];
};
static_assert(sizeof(block_iq4_xs) == 136, "GGUF: IQ4_XS is 136 bytes");

/// The 16 levels of IQ4_NL and IQ4_XS, ascending.
RWKVNATIVE_CONSTANT quant_i8 kIq4Codebook[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                 1,    13,   25,  38,  53,  69,  89,  113};

}  // namespace rwkvnative
