// Function constants: shapes and tuning, fixed when a pipeline is made. The host (pipelines.h) sets all of them for every
// kernel; one that a kernel does not use is 0.
#pragma once

#define CONSTANT_WIDTH 0        // values of a row of activations
#define CONSTANT_EPSILON 1      // of a norm, as the bits of a float
#define CONSTANT_ITEMS 2        // pieces of a row of a matrix that a thread takes at once
#define CONSTANT_LANES 3        // threads that share a row of a matrix, a power of two up to 32
#define CONSTANT_SIMDGROUPS 4   // of a threadgroup
#define CONSTANT_CHUNK 5        // quads of a row that a threadgroup writes
#define CONSTANT_MIXES 6        // outputs of shift_mix
#define CONSTANT_HEAD_SIZE 7
#define CONSTANT_KEYS 8         // keys of a state's row that a thread of wkv7 keeps
#define CONSTANT_FIRST_LAYER 9
#define CONSTANT_KEEP 10        // entries that a pass of top_k keeps of each slice
#define CONSTANT_FIRST 11       // the pass reads logits
#define CONSTANT_LAST 12        // the pass makes the result
#define CONSTANT_PASSES 13      // times that a threadgroup of mix_linear takes rows
#define CONSTANT_HALF 14        // activations that are mixes are scaled halves, not floats
#define N_CONSTANTS 15

#ifdef __METAL_VERSION__
constant uint kWidth [[function_constant(CONSTANT_WIDTH)]];
constant uint kEpsilonBits [[function_constant(CONSTANT_EPSILON)]];
constant uint kItems [[function_constant(CONSTANT_ITEMS)]];
constant uint kLanes [[function_constant(CONSTANT_LANES)]];
constant uint kSimdgroups [[function_constant(CONSTANT_SIMDGROUPS)]];
constant uint kChunk [[function_constant(CONSTANT_CHUNK)]];
constant uint kMixes [[function_constant(CONSTANT_MIXES)]];
constant uint kHeadSize [[function_constant(CONSTANT_HEAD_SIZE)]];
constant uint kKeys [[function_constant(CONSTANT_KEYS)]];
constant uint kFirstLayer [[function_constant(CONSTANT_FIRST_LAYER)]];
constant uint kKeep [[function_constant(CONSTANT_KEEP)]];
constant uint kFirst [[function_constant(CONSTANT_FIRST)]];
constant uint kLast [[function_constant(CONSTANT_LAST)]];
constant uint kPasses [[function_constant(CONSTANT_PASSES)]];
constant uint kHalf [[function_constant(CONSTANT_HALF)]];
#endif
