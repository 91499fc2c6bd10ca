// What the environment may change about the device, read once when it is opened. For tests and for measuring.
//
//   RWKVNATIVE_METAL_DISABLE    a comma-separated list of nocopy (wrap the model file), fuse (Tuning::fuse), matmul
//   RWKVNATIVE_METAL_TUNING     a comma-separated list of name=number, names as in Tuning
//   RWKVNATIVE_METAL_ARCHIVE    the folder that keeps pipelines from one process to the next (Pipelines); by default beside
//                               the tuner's choices, in the user's cache; none if it is set and empty
//   RWKVNATIVE_METAL_TRACE      1: each dispatch in an encoder of its own, so that an error of the GPU names the kernel; slow
//   RWKVNATIVE_METAL_LIBRARIES  the folder of the libraries that cmake/metal_libraries.py made; by default beside the
//                               extension; none if it is set and empty
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rwkvnative::metal {

// Numbers that change speed and never results (beyond the order of sums; but for `half`).
struct Tuning {
  uint32_t simdgroups = 4;   // of a mat-vec threadgroup
  uint32_t lanes = 0;        // threads that share a row of a mat-vec; 0: chosen from its length and the number of rows
  uint32_t rows = 0;         // rows that a thread works on at once: 1 or 2; 0: chosen
  uint32_t threads = 32768;  // that a dispatch should have at least: below it, a row gets more of them
  uint32_t norm_simdgroups = 8;  // of a threadgroup that norms a row
  uint32_t chunk = 32;           // quads of a row that a threadgroup of shift_mix writes
  // Stages of a layer while decoding. 1: seven, the first LoRA matrices beside shift_mix; 2: five, the matrices that read mixes
  // make them, and wkv7 multiplies the second LoRA matrices.
  uint32_t fuse = 1;
  uint32_t lora_simdgroups = 8;  // of a threadgroup of mix_linear for LoRA matrices alone
  uint32_t mix_simdgroups = 16;  // of one for all of them
  uint32_t mix_passes = 2;       // times that it takes rows
  uint32_t matmul_rows = 9;      // from so many rows of activations on, mat-mat instead of mat-vec
  uint32_t prefill_rows = 0;     // tokens of a chunk of a prompt; 0: chosen
  uint32_t in_flight = 4;  // tickets
  // Of a command buffer at most, in millions: a fifth of what the smallest of these GPUs, the M1's with seven cores, can do in a
  // second at best.
  uint32_t megaoperations = 460'000;
  // 1: mat-vecs read the mixes of norms as halves (11 bits, scaled so that none overflows), unless Numerics::F32 is asked for.
  uint32_t half = 0;
};

// From "name=number,...", or with semicolons; throws InputError.
Tuning parse_tuning(const std::string& text);
// What the tuner should try.
std::vector<std::string> tuning_variants();

struct Options {
  bool nocopy = true;
  bool fuse = true;
  bool matmul = true;
  bool trace = false;
  std::string archive, libraries;  // folders; empty: none
  Tuning tuning;

  // Throws InputError naming the variable and what it holds.
  static Options from_environment();
};

}  // namespace rwkvnative::metal
