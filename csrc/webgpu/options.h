// What the environment may change about a device, read once when it is opened. For tests (forced fallbacks, validation) and
// for measuring (tuning constants).
//
//   RWKVNATIVE_WEBGPU_DISABLE     a comma-separated list of subgroups, dot4, f16, matrices, timestamps, host-pointer,
//                                 carry, limits (such as are higher than WebGPU's default ones)
//   RWKVNATIVE_WEBGPU_VALIDATION  1: Dawn validates every call and clamps every index
//   RWKVNATIVE_WEBGPU_MAX_BINDING a number of bytes: pretend that a binding can be no larger
//   RWKVNATIVE_WEBGPU_MEMORY      a number of bytes: pretend that the device has no more
//   RWKVNATIVE_WEBGPU_HOST_CACHE  a number of bytes: the most host memory for streamed weights in the device's layout
//   RWKVNATIVE_WEBGPU_FAIL        lost=N: the device is lost at its N-th submit; memory=N/EVERY: it has no memory for its N-th
//                                 buffer, nor for one in EVERY from there on, nor for the one behind each; kernel=TEXT: kernels
//                                 with TEXT in their label do not compile
//   RWKVNATIVE_WEBGPU_NULL        1: Dawn's null adapter is a device too, "webgpu:null": it checks kernels and runs nothing. It counts
//                                 as one with subgroup matrices, which no software GPU has, unless these are disabled
//   RWKVNATIVE_WEBGPU_TUNING      a comma-separated list of name=number, names as in Tuning; after a semicolon, for one kind of
//                                 dispatch: "workgroup=128;decode/linear ffn_hidden:workgroup=512,lanes=8" (see Tuned)
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace rwkvnative::webgpu {

// Numbers that change speed and never results (beyond the order of sums).
struct Tuning {
  uint32_t workgroup = 256;  // threads of a mat-vec workgroup
  uint32_t quantizing_workgroup = 512;  // of one whose outputs become int8: it needs 32 rows at once
  uint32_t subgroups = 1;               // 0: sums over threads go through shared memory
  uint32_t lanes = 0;        // threads that share a row of a mat-vec; 0: chosen from its length and the number of rows
  uint32_t threads = 65536;  // below so many threads of a dispatch, a row gets more of them
  uint32_t wide_threads = 196608;  // a row gets more threads than a subgroup has while a dispatch has no more than so many
  uint32_t rows = 1;         // matrix rows that a thread works on at once
  uint32_t float_lanes = 0;  // the same two for F32, F16 and BF16 matrices
  uint32_t float_rows = 1;
  uint32_t tile = 0;    // rows of activations for one read of a weight; 0: 8, or 2 on software (its compiler is slow)
  uint32_t unroll = 1;  // steps of a mat-vec row in straight line
  uint32_t column_rows = 0;       // for a few rows of activations: matrix rows of a thread; 0: chosen
  uint32_t column_slices = 0;     // how many times more threads than lanes share a row; 0: chosen
  uint32_t column_workgroup = 0;  // threads of a workgroup; 0: chosen
  uint32_t column_stage = 0;      // 1: each thread reads activations for itself; 2: staged in workgroup memory; 0: chosen
  uint32_t norm_workgroup = 256;  // threads of a layer norm
  uint32_t norm_chunk = 32;       // quads of a row that a workgroup of shift_mix mixes
  uint32_t wkv_groups = 4;        // threads per value of a head in wkv7
  uint32_t wkv_lanes = 8;         // threads per value of a head in wkv7_rows
  uint32_t wkv_step_groups = 0;   // groups of keys, with a thread for four values each, of wkv7_step; 0: chosen
  uint32_t wkv_halves = 0;        // 1: wkv7_step writes float16 rows, their factor from a bound (nobody has measured it yet); 0: packed after it
  uint32_t wkv_values = 32;       // values of a head that a workgroup of wkv7_rows or wkv7_chunk works on, where that can be
  uint32_t wkv_tokens = 16;       // rows of a sequence that it stages at once, where memory allows it
  uint32_t fuse = 1;              // 0: no compile_fused.cpp
  uint32_t mix_lanes = 16;        // threads that share a row of a quantized matrix in mix_linear
  uint32_t mix_rows = 2;          // rows of a large matrix that such a thread takes, and of a float matrix
  uint32_t mix_float_rows = 4;
  uint32_t mix_registers = 24;    // for weights that are on their way while it mixes
  uint32_t mix_ahead = 1;         // 0: a token shift of many rows asks for a mix's lerp where it makes the mix: fewer registers
  uint32_t matmat = 0;            // for many rows 1: mat-vecs; 2: subgroup matrices; 3: those by a plain loop; 4: float32; 0: chosen
  uint32_t matmat_rows = 17;      // from so many rows on
  uint32_t matmat_tile = 0;       // rows of a tile: 16, 32, 64 or 128; 0: chosen
  uint32_t matmat_threads = 33792;  // of products that the device runs at once: workgroups share tiles as long as there are fewer
  uint32_t matmat_weights = 0;    // where products of float16 load them from 1: packed; 2: kept tiles; 0: chosen
  uint32_t matmat_outs = 0;       // of products of tiles, and of 128 rows (64 or 128): outputs of a workgroup; 0: chosen
  uint32_t matmat_along = 0;      // subgroups that share them; 0: chosen
  uint32_t matmat_loads = 2;      // tiles of weights along the inputs on their way at once
  uint32_t matmat_slices = 0;     // of activations in workgroup memory in products of kept tiles; 0: chosen
  uint32_t matmat_table = 0;      // of parts, in these, 1: read where it is; 2: brought to workgroup memory at once; 0: chosen
  uint32_t matmat_puts = 0;       // 1: octets of a slice are put at places that the compiler sees to be multiples of eight
  uint32_t layout = 1;            // of matrices: so many rows side by side; 1: as in the file; 0: all of them (transposed)
  uint32_t matmat_ahead = 1;      // 0: activations are loaded where they are multiplied, not ahead
  uint32_t short_rows = 0;        // of Programs for short prompts, powers of two added up (80: 16 and 64); 1: none; 0: chosen
  uint32_t in_flight = 4;         // tickets
  uint32_t submit_us = 500000;    // microseconds that a submit may take by watchdog.h's estimate
  uint32_t prefill_rows = 0;      // tokens of a chunk of a prompt; 0: chosen
  uint32_t carry_threads = 4096;  // the most that copy streamed weights beside a kernel: carry.h
  uint32_t carry_spare = 100;     // percent of those in proportion to the part of its kernel's time that a share takes
  uint32_t carry_products = 100;  // percent with which the time of products of tiles counts as long as others have time
};

// What a mat-vec does with its weights, for the profiler: everything; reads them, but does not decode; uses constants instead.
// The last two give wrong results in about the time of the memory, and of the arithmetic.
enum class Experiment : uint8_t { None, PlainLoads, NoLoads };

// Constants for everything, and others for single kinds of dispatches. A key is "decode/" (one row) or "many/" and the label.
struct Tuned {
  Tuning all;
  std::map<std::string, Tuning, std::less<>> kinds;
  bool int8 = true;  // where the model's numerics leave the choice
  Experiment experiment = Experiment::None;

  const Tuning& of(bool one_row, const std::string& label) const;
};

// From the syntax of RWKVNATIVE_WEBGPU_TUNING; throws InputError.
Tuned parse_tuning(const std::string& text);
// Such texts that are worth trying on any model, a constant or two at a time; some only where there are subgroup matrices.
std::vector<std::string> tuning_variants(bool matrices);

bool null_adapter_wanted();

struct Options {
  bool subgroups = true;
  bool dot4 = true;
  bool half = true;
  bool matrices = true;
  bool timestamps = true;
  bool validation = false;
  bool host_pointer = true;
  bool limits = true;  // the adapter's; false: WebGPU's default ones
  bool carry = true;  // streamed weights beside kernels: carry.h
  uint64_t max_binding = UINT64_MAX;
  uint64_t memory = UINT64_MAX;
  uint64_t host_cache = UINT64_MAX;  // and no more than what the machine can spare
  uint64_t lost_at_submit = UINT64_MAX;
  uint64_t refused_from = UINT64_MAX, refused_every = 1;  // buffers: that one, and each so many after it, with the one behind each
  std::string broken_kernel;
  Tuned tuned;

  // Throws InputError naming the variable and what it holds.
  static Options from_environment();
};

}  // namespace rwkvnative::webgpu
