// From logits to a token or to sorted candidates.
//
// An entry is (key, id); keys order logits as unsigned numbers: a larger logit has a larger key, NaN comes last of all
// numbers. Entries are ordered by falling key, then by rising id. kNothing comes after every logit.
// Threadgroup y is the sequence in all kernels, x a slice of kSlice logits or entries. entries: lists at
// ChoiceArguments::in and out.
#include "common.h"

constant constexpr uint kThreads = 256;
constant constexpr uint kSlice = 1024;
constant constexpr uint kMinusInfinity = 0x007fffffu;  // the keys of these logits
constant constexpr uint kInfinity = 0xff800000u;

inline uint2 nothing() { return uint2(0, 0xffffffffu); }

inline uint logit_key(float logit) {
  const uint bits = as_type<uint>(logit);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 1;
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
inline float key_logit(uint key) { return as_type<float>((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key); }

inline bool comes_first(uint2 a, uint2 b) { return a.x > b.x || (a.x == b.x && a.y < b.y); }

// logits[sequence][id] += value for every bias entry of the submit; an id comes once in a sequence.
kernel void add_bias(constant ChoiceArguments& arguments [[buffer(BUFFER_ARGUMENTS)]],
                     constant Submit& submit [[buffer(BUFFER_SUBMIT)]],
                     device float* logits [[buffer(BUFFER_OUT)]],
                     device const BiasEntry* bias [[buffer(BUFFER_BIAS)]],
                     uint at [[thread_position_in_grid]]) {
  if (at >= submit.n_bias) return;
  device const BiasEntry& entry = bias[at];
  logits[arguments.logits + u64(entry.sequence) * arguments.logits_stride + entry.id] += entry.value;
}

// The best entry of each slice of the logits (kFirst) into entries[out ...], then the best of those: the sequence's token, and the
// result unless its logit is infinite or NaN, which is told as -1.
kernel void argmax(constant ChoiceArguments& arguments [[buffer(BUFFER_ARGUMENTS)]],
                   device const float* logits [[buffer(BUFFER_IN)]],
                   device uint* results [[buffer(BUFFER_OUT)]],
                   device uint* tokens [[buffer(BUFFER_TOKENS)]],
                   device uint2* entries [[buffer(BUFFER_ENTRIES)]],
                   uint2 group [[threadgroup_position_in_grid]],
                   uint index [[thread_index_in_threadgroup]]) {
  threadgroup uint2 best[kThreads];
  uint2 mine = nothing();
  if (kFirst != 0) {
    device const float* row = logits + arguments.logits + u64(group.y) * arguments.logits_stride;
    const uint end = min(arguments.count, (group.x + 1) * kSlice);
    for (uint id = group.x * kSlice + index; id < end; id += kThreads) {
      const uint2 entry = uint2(logit_key(row[id]), id);
      if (comes_first(entry, mine)) mine = entry;
    }
  } else {
    for (uint at = index; at < arguments.count; at += kThreads) {
      const uint2 entry = entries[arguments.in + group.y * arguments.in_stride + at];
      if (comes_first(entry, mine)) mine = entry;
    }
  }
  best[index] = mine;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint step = kThreads / 2; step > 0; step /= 2) {
    if (index < step && comes_first(best[index + step], best[index])) best[index] = best[index + step];
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  if (index != 0) return;
  if (kFirst != 0) {
    entries[arguments.out + group.y * arguments.out_stride + group.x] = best[0];
  } else {
    tokens[group.y] = best[0].y;
    results[group.y] = best[0].x > kMinusInfinity && best[0].x < kInfinity ? best[0].y : 0xffffffffu;
  }
}

// Bitonic sort of a slice, best first.
inline void sort_slice(threadgroup uint2* sorted, uint index) {
  for (uint size = 2; size <= kSlice; size *= 2) {
    for (uint step = size / 2; step > 0; step /= 2) {
      for (uint i = index; i < kSlice / 2; i += kThreads) {
        const uint low = 2 * step * (i / step) + i % step, high = low + step;
        const bool best_first = (low & size) == 0;
        const uint2 a = sorted[low], b = sorted[high];
        if (comes_first(b, a) == best_first) {
          sorted[low] = b;
          sorted[high] = a;
        }
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  }
}

// The kKeep best entries of each slice, sorted: of the logits (kFirst), with the slice's largest logit m and the sum of
// exp(logit - m) into entries[sums ...]; else of the `count` entries at `in`. kLast (one slice) writes to `results` instead:
// (log sum exp of the whole vocabulary, 0), then the entries.
kernel void top_k(constant ChoiceArguments& arguments [[buffer(BUFFER_ARGUMENTS)]],
                  device const float* logits [[buffer(BUFFER_IN)]],
                  device uint2* results [[buffer(BUFFER_OUT)]],
                  device uint2* entries [[buffer(BUFFER_ENTRIES)]],
                  uint2 group [[threadgroup_position_in_grid]],
                  uint index [[thread_index_in_threadgroup]],
                  uint lane [[thread_index_in_simdgroup]],
                  uint simdgroup [[simdgroup_index_in_threadgroup]],
                  uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup uint2 sorted[kSlice];
  threadgroup float2 shared[kMaxSimdgroups];
  const Thread thread_at = {index, lane, simdgroup, simdgroups};
  const uint start = group.x * kSlice;
  for (uint i = index; i < kSlice; i += kThreads) {
    uint2 entry = nothing();
    if (start + i < arguments.count) {
      if (kFirst != 0) {
        entry = uint2(logit_key(logits[arguments.logits + u64(group.y) * arguments.logits_stride + start + i]), start + i);
      } else {
        entry = entries[arguments.in + group.y * arguments.in_stride + start + i];
      }
    }
    sorted[i] = entry;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  sort_slice(sorted, index);
  device uint2* out = entries + arguments.out + group.y * arguments.out_stride + group.x * kKeep;
  if (kLast != 0) out = results + group.y * (1 + kKeep) + 1;
  for (uint i = index; i < kKeep; i += kThreads) out[i] = sorted[i];

  // Minus infinity and what comes after it add nothing to the sums.
  const uint most = sorted[0].x;
  device uint2* sums = entries + arguments.sums + group.y * arguments.sums_stride;
  if (kFirst != 0) {
    float sum = 0.0f;
    for (uint i = index; i < kSlice; i += kThreads) {
      if (sorted[i].x > kMinusInfinity) sum += precise::exp(key_logit(sorted[i].x) - key_logit(most));
    }
    const float slice_sum = threadgroup_sum(float2(sum, 0.0f), shared, thread_at).x;
    if (index == 0) sums[group.x] = uint2(most, as_type<uint>(slice_sum));
  }
  if (kLast != 0) {
    threadgroup_barrier(mem_flags::mem_device);
    float sum = 0.0f;
    for (uint slice = index; slice < arguments.n_sums; slice += kThreads) {
      const uint2 entry = sums[slice];
      if (entry.x > kMinusInfinity) sum += as_type<float>(entry.y) * precise::exp(key_logit(entry.x) - key_logit(most));
    }
    const float whole = threadgroup_sum(float2(sum, 0.0f), shared, thread_at).x;
    if (index == 0) results[group.y * (1 + kKeep)] = uint2(as_type<uint>(key_logit(most) + precise::log(whole)), 0);
  }
}
