// What the host hands to the kernels: binding indices, and the structs behind them. Valid as C++20 and as Metal Shading
// Language. Offsets into activations are in floats, offsets into weights in bytes.
#pragma once

#ifdef __METAL_VERSION__
#include <metal_stdlib>
typedef uint u32;
typedef int i32;
typedef ulong u64;
#else
#include <cstdint>
namespace rwkvnative::metal {
using u32 = std::uint32_t;
using i32 = std::int32_t;
using u64 = std::uint64_t;
#endif

// Indices of buffer arguments. Not every kernel has every one.
#define BUFFER_ARGUMENTS 0   // this dispatch's struct of below
#define BUFFER_SUBMIT 1      // Submit
#define BUFFER_SEQUENCES 2   // SequenceInfo of each sequence
#define BUFFER_ROWS 3        // RowInfo of each row
#define BUFFER_RANGE 4       // StateRange of this dispatch
#define BUFFER_IN 5          // activations
#define BUFFER_OUT 6         // activations, or the results of a submit
#define BUFFER_WEIGHTS 7     // packed matrices, or the model file
#define BUFFER_STATE_IN 8    // a block of states
#define BUFFER_STATE_OUT 9
#define BUFFER_TOKENS 10     // the last token chosen for each sequence
#define BUFFER_ENTRIES 11    // candidates
#define BUFFER_BIAS 12       // BiasEntry of each biased logit
#define BUFFER_VECTOR_0 13   // a kernel's own vectors
#define BUFFER_VECTOR_1 14
#define BUFFER_VECTOR_2 15
#define BUFFER_VECTOR_3 16
#define BUFFER_VECTOR_4 17
#define BUFFER_VECTOR_5 18
#define BUFFER_VECTOR_6 19
#define BUFFER_VECTOR_7 20

// The numbers of one submit.
struct Submit {
  u32 rows;
  u32 sequences;
  u32 head_rows;  // rows that the head works on
  u32 n_bias;
};

#define STATE_FRESH 0xffffffffu

// One sequence of a submit. Its state is number `out_place` of the block at BUFFER_STATE_OUT, and comes from number
// `in_place` of BUFFER_STATE_IN, or is zero (STATE_FRESH). `in_side` and `out_side` say which of the two copies of the
// token shifts (host: state.h).
struct SequenceInfo {
  u32 first_row, rows;
  u32 in_place, out_place;
  u32 in_side, out_side;
  u32 pad[2];
};

struct RowInfo {
  i32 token;  // -1: the one in BUFFER_TOKENS
  u32 sequence;
};

// Sequences whose states lie in the same two blocks: one dispatch of a kernel that uses them.
struct StateRange {
  u32 first_sequence;
  u32 first_row;
};

// Where a part of the state of one layer lies, in floats.
struct StatePlace {
  u64 stride;       // from state to state of a block
  u64 offset;       // of this layer's part
  u64 side_stride;  // from copy to copy, 0 if there is one
};

struct BiasEntry {
  u32 id;
  u32 sequence;
  float value;
};

// ---- the arguments of each kernel

struct EmbedArguments {
  u64 table;  // of row 0
  u64 row_bytes;
  u32 out, out_stride;
};

struct NormArguments {
  u32 x, x_stride;
  u32 out, out_stride;
  u32 all_rows;  // 0: the last row of each sequence
};

#define MAX_MIXES 8

struct MixOutput {
  u32 lerp;  // in floats
  u32 out;
  float scale;  // of halves: see scaled_halves in common.h
};

struct ShiftMixArguments {
  u32 x, stride;
  StatePlace state;
  MixOutput mixes[MAX_MIXES];
};

#define MAX_PARTS 8

// Rows of one matrix. in and out are those of row 0 of the activations.
struct MatrixPart {
  u64 weights;
  u32 rows;
  u32 first_group;  // threadgroup
  u32 in, in_stride;
  u32 out, out_stride;
  u32 activation;
  u32 lerp;  // of mix_linear
  float scale, unscale;  // of inputs that are halves, a power of two and its inverse
  u32 pad;
};

struct LinearArguments {
  u32 n_parts;
  u32 of_head;
  u64 row_bytes;
  MatrixPart parts[MAX_PARTS];
};

struct MixLinearArguments {
  u32 x;
  u32 n_parts;
  u32 keeps_state;
  u32 pad;
  u64 row_bytes;
  StatePlace state;
  MatrixPart parts[MAX_PARTS];
};

// The second matrix of a LoRA: [C] rows, and the slot of its input.
struct LoraRows {
  u64 weights;
  u64 row_bytes;
  u32 hidden;
  u32 octets;  // of a row; 0: there is none
};

struct Wkv7Arguments {
  LoraRows loras[4];  // w, a, v, g: of the kernels that multiply them
  u32 stride;  // of every slot
  u32 r, k, v;
  u32 lora_w, lora_a, lora_v, lora_g;
  u32 v_first, out;
  float epsilon;
  u32 pad;
  StatePlace state;
};

// Lists of entries (key, id) in BUFFER_ENTRIES; strides go from sequence to sequence. See choice.metal.
struct ChoiceArguments {
  u32 logits, logits_stride;
  u32 count;  // logits or entries to choose from
  u32 in, in_stride;
  u32 out, out_stride;
  u32 sums, sums_stride, n_sums;
};

#ifndef __METAL_VERSION__
}  // namespace rwkvnative::metal
#endif
