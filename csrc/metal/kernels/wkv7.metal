// RWKV-7's time mix after its input projections, for one head (N = kHeadSize channels) of one sequence:
//   w = exp(-exp(-1/2) sigmoid(w0 + lora_w));  a = sigmoid(a0 + lora_a);  g = lora_g
//   v = v + (v_first - v) sigmoid(v0 + lora_v);   first layer: v_first = v
//   kk = k * k_k / max(|k * k_k|, 1e-12);  k = k (1 + (a - 1) k_a)
//   S = S diag(w) - (S kk)(kk a)^T + v k^T;  y = S r
//   out = (groupnorm(y) + v sum(r k r_k)) g
// lora_z = z2 . hidden_z comes from a linear dispatch before this one, which spreads those matrices over the whole device; or,
// for one token and float matrices, is made here (FloatLoras), which is one dispatch to wait for less.
//
// act: r k v lora_w lora_a lora_v lora_g v_first in, out (and, in the first layer, v_first) written; float32 [rows][stride].
// vectors: w0 a0 v0 k_k k_a r_k and the group norm's weight and bias [C]. state: S of this layer as [H][key][value], float32,
// read from state_in and written to state_out, which may be the same.
// Threadgroup x is the head, y the sequence. Thread (i, group) = group * N + i keeps the keys group * kKeys ... of S's row i in
// registers for all of the sequence's tokens; the first group's threads also make the channels' vectors. All float32.
#include "floats.h"
#include "state_place.h"

constant constexpr uint kMaxHeadSize = 256;
constant constexpr uint kMaxThreads = 1024;

inline float group_total(threadgroup const float* parts, uint i) {
  float sum = 0.0f;
  for (uint group = 0; group < kHeadSize / kKeys; ++group) sum += parts[group * kHeadSize + i];
  return sum;
}

constant constexpr uint kLoraW = 0, kLoraA = 1, kLoraV = 2, kLoraG = 3;

// lora_z of a channel from its slot.
struct SlotLoras {
  enum { kHere = 0 };
  static float row(device const uchar*, constant LoraRows&, device const float*, uint, uint) { return 0.0f; }
};

// Row `row` of a LoRA's second matrix times its input; kLoraLanes neighbouring threads share it, each gets the sum.
constant constexpr uint kLoraLanes = 8;
template <class Type>
struct FloatLoras {
  enum { kHere = 1 };
  static float row(device const uchar* weights, constant LoraRows& lora, device const float* act, uint row, uint lane) {
    device const uchar* at = weights + lora.weights + u64(row) * lora.row_bytes;
    float sum = 0.0f;
    for (uint i = lane; i < lora.octets; i += kLoraLanes) {
      const Octet octet = Type::decode(at, i);
      device const float4* hidden = (device const float4*)(act + lora.hidden + 8 * i);
      sum += dot(octet.low, hidden[0]) + dot(octet.high, hidden[1]);
    }
    for (uint step = kLoraLanes / 2; step > 0; step /= 2) sum += simd_shuffle_xor(sum, ushort(step));
    return sum;
  }
};

template <uint kMaxQuads, class Loras>
kernel void wkv7(constant Wkv7Arguments& arguments [[buffer(BUFFER_ARGUMENTS)]],
                 device const SequenceInfo* sequences [[buffer(BUFFER_SEQUENCES)]],
                 constant StateRange& range [[buffer(BUFFER_RANGE)]],
                 device float* act [[buffer(BUFFER_OUT)]],
                 device const uchar* weights [[buffer(BUFFER_WEIGHTS)]],
                 device const float* state_in [[buffer(BUFFER_STATE_IN)]],
                 device float* state_out [[buffer(BUFFER_STATE_OUT)]],
                 device const float* w0 [[buffer(BUFFER_VECTOR_0)]],
                 device const float* a0 [[buffer(BUFFER_VECTOR_1)]],
                 device const float* v0 [[buffer(BUFFER_VECTOR_2)]],
                 device const float* k_k [[buffer(BUFFER_VECTOR_3)]],
                 device const float* k_a [[buffer(BUFFER_VECTOR_4)]],
                 device const float* r_k [[buffer(BUFFER_VECTOR_5)]],
                 device const float* norm_weight [[buffer(BUFFER_VECTOR_6)]],
                 device const float* norm_bias [[buffer(BUFFER_VECTOR_7)]],
                 uint2 threadgroup_at [[threadgroup_position_in_grid]],
                 uint index [[thread_index_in_threadgroup]],
                 uint lane [[thread_index_in_simdgroup]],
                 uint simdgroup [[simdgroup_index_in_threadgroup]],
                 uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float2 shared[kMaxSimdgroups];
  threadgroup float partial_kk[kMaxThreads], partial_y[kMaxThreads];
  threadgroup float4 head_r[kMaxHeadSize / 4], head_w[kMaxHeadSize / 4], head_k[kMaxHeadSize / 4];
  threadgroup float4 head_kk[kMaxHeadSize / 4], head_kk_a[kMaxHeadSize / 4];  // not yet normalized
  threadgroup float head_v[kMaxHeadSize];
  threadgroup float head_lora[4 * kMaxHeadSize];
  const Thread thread_at = {index, lane, simdgroup, simdgroups};
  device const SequenceInfo& info = sequences[range.first_sequence + threadgroup_at.y];
  const uint head = threadgroup_at.x;
  const uint i = index % kHeadSize, group = index / kHeadSize;
  const bool keeps = group < kHeadSize / kKeys;  // the last simdgroup may be only partly needed
  const bool leads = group == 0;
  const uint channel = head * kHeadSize + i;
  const uint first_quad = group * kKeys / 4;
  const uint state_at = head * kHeadSize * kHeadSize + group * kKeys * kHeadSize + i;

  float4 s[kMaxQuads];
  for (uint j = 0; j < kKeys / 4; ++j) s[j] = float4(0.0f);
  if (keeps && !is_fresh(info)) {
    device const float* from = state_in_at(state_in, arguments.state, info) + state_at;
    for (uint j = 0; j < kKeys / 4; ++j) {
      device const float* key = from + 4 * j * kHeadSize;
      s[j] = float4(key[0], key[kHeadSize], key[2 * kHeadSize], key[3 * kHeadSize]);
    }
  }

  if (Loras::kHere != 0) {
    for (uint at = index / kLoraLanes; at < 4 * kHeadSize; at += thread_at.count() / kLoraLanes) {
      const uint z = at / kHeadSize, value = at % kHeadSize;
      const float sum = Loras::row(weights, arguments.loras[z], act, head * kHeadSize + value, index % kLoraLanes);
      if (index % kLoraLanes == 0) head_lora[at] = sum;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }

  for (uint t = 0; t < info.rows; ++t) {
    const u64 row = u64(info.first_row + t) * arguments.stride + channel;
    float2 sums = float2(0.0f);  // |k k_k|^2, sum of r k r_k
    float gate = 0.0f;
    if (leads) {
      const float r = act[arguments.r + row];
      float k = act[arguments.k + row];
      float v = act[arguments.v + row];
      const bool here = Loras::kHere != 0;
      const float lora_w = here ? head_lora[kLoraW * kHeadSize + i] : act[arguments.lora_w + row];
      const float lora_a = here ? head_lora[kLoraA * kHeadSize + i] : act[arguments.lora_a + row];
      const float a = sigmoid(a0[channel] + lora_a);
      const float w = precise::exp(-0.6065306597126334f * sigmoid(w0[channel] + lora_w));
      gate = here ? head_lora[kLoraG * kHeadSize + i] : act[arguments.lora_g + row];
      if (kFirstLayer != 0) {
        act[arguments.v_first + row] = v;
      } else {
        v += (act[arguments.v_first + row] - v) * sigmoid(v0[channel] + (here ? head_lora[kLoraV * kHeadSize + i] : act[arguments.lora_v + row]));
      }
      const float kk = k * k_k[channel];
      k *= 1.0f + (a - 1.0f) * k_a[channel];
      ((threadgroup float*)head_r)[i] = r;
      ((threadgroup float*)head_w)[i] = w;
      ((threadgroup float*)head_k)[i] = k;
      ((threadgroup float*)head_kk)[i] = kk;
      ((threadgroup float*)head_kk_a)[i] = kk * a;
      head_v[i] = v;
      sums = float2(kk * kk, r * k * r_k[channel]);
    }
    sums = threadgroup_sum(sums, shared, thread_at);
    const float inverse = 1.0f / max(precise::sqrt(sums.x), 1e-12f);

    float s_kk = 0.0f;
    if (keeps) {
      for (uint j = 0; j < kKeys / 4; ++j) s_kk += dot(s[j], head_kk[first_quad + j]);
    }
    partial_kk[index] = s_kk;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const float v_i = head_v[i];
    float y = 0.0f;
    if (keeps) {
      s_kk = group_total(partial_kk, i) * inverse * inverse;  // of kk here, and of kk a below
      for (uint j = 0; j < kKeys / 4; ++j) {
        const uint quad = first_quad + j;
        s[j] = s[j] * head_w[quad] - s_kk * head_kk_a[quad] + v_i * head_k[quad];
        y += dot(s[j], head_r[quad]);
      }
    }
    partial_y[index] = y;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y = leads ? group_total(partial_y, i) : 0.0f;
    const float mean = threadgroup_sum(float2(y, 0.0f), shared, thread_at).x / float(kHeadSize);
    const float centred = leads ? y - mean : 0.0f;
    const float variance = threadgroup_sum(float2(centred * centred, 0.0f), shared, thread_at).x / float(kHeadSize);
    if (leads) {
      const float scale = precise::rsqrt(variance + arguments.epsilon);
      act[arguments.out + row] = (centred * scale * norm_weight[channel] + norm_bias[channel] + v_i * sums.y) * gate;
    }
  }

  if (keeps) {
    device float* to = state_out_at(state_out, arguments.state, info) + state_at;
    for (uint j = 0; j < kKeys / 4; ++j) {
      device float* key = to + 4 * j * kHeadSize;
      key[0] = s[j].x;
      key[kHeadSize] = s[j].y;
      key[2 * kHeadSize] = s[j].z;
      key[3 * kHeadSize] = s[j].w;
    }
  }
}

// Up to 16 keys a thread (heads up to 128) and up to 64.
#define INSTANTIATE(Name16, Name64, Loras) \
  template [[host_name(Name16)]] kernel decltype(wkv7<4, Loras>) wkv7<4, Loras>; \
  template [[host_name(Name64)]] kernel decltype(wkv7<16, Loras>) wkv7<16, Loras>;

INSTANTIATE("wkv7_16", "wkv7_64", SlotLoras)
INSTANTIATE("wkv7_16_f32", "wkv7_64_f32", FloatLoras<F32>)
INSTANTIATE("wkv7_16_f16", "wkv7_64_f16", FloatLoras<F16>)
INSTANTIATE("wkv7_16_bf16", "wkv7_64_bf16", FloatLoras<BF16>)
