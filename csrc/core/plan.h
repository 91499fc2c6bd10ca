// A Plan is a model as data: a flat list of coarse, fused ops over named activation slots, weights and recurrent state.
// An architecture (core/arch/) writes it once; a backend compiles it into a Program. The same Plan serves decode (one
// row), batch decode (one row for each of B sequences) and prefill (T rows of one sequence): a row is one token.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "core/dtype.h"

namespace rwkvnative {

// A weight in the model file's bytes. A matrix [ne1 outputs][ne0 inputs] is stored row by row, ne0 contiguous.
struct Tensor {
  std::string name;
  DType type = DType::F32;
  uint32_t ne0 = 0;
  uint32_t ne1 = 1;
  const std::byte* data = nullptr;
  size_t row_bytes = 0;

  size_t bytes() const { return row_bytes * ne1; }
  size_t values() const { return size_t{ne0} * ne1; }
};

using TensorId = int32_t;  // index into Plan::tensors
using SlotId = int32_t;    // index into Plan::slots
inline constexpr int32_t kNone = -1;

// An activation buffer, float32 [rows][width].
struct Slot {
  std::string name;
  uint32_t width = 0;
};

// One float32 array of the recurrent state, the same shape in every layer.
struct StatePart {
  std::string name;
  std::vector<uint32_t> shape;
  size_t values() const;
};

enum class Activation : uint8_t { None, Tanh, Sigmoid, ReluSquared };

// out = LayerNorm(table[token]).
struct EmbedOp {
  TensorId table, norm_weight, norm_bias;
  float epsilon;
  SlotId out;
};

// h = LayerNorm(x); out[i] = h + (h_prev - h) * lerp[i], h_prev being the h of the sequence's previous token, which the
// state part carries from call to call.
struct ShiftMixOp {
  SlotId x;
  TensorId norm_weight, norm_bias;
  float epsilon;
  uint32_t layer;
  uint32_t state_part;
  TensorId lerp;  // [n_mixes][width]
  std::vector<SlotId> out;
};

// out = activation(weight . in), or out += weight . in.
struct LinearPart {
  TensorId weight;
  SlotId in, out;
  Activation activation = Activation::None;
  bool accumulate = false;
};

// Independent matrices in one dispatch.
struct LinearOp {
  std::vector<LinearPart> parts;
};

// The RWKV-7 time mix after its input projections (docs in arch/rwkv7.cpp): the second halves of the four LoRAs, the decay,
// the in-context learning rate, the delta-rule update of the state, group norm, bonus and gate.
struct Wkv7Op {
  uint32_t layer;
  uint32_t state_part;
  SlotId r, k, v;                             // [C] each, after their matrices
  SlotId w_hidden, a_hidden, v_hidden, g_hidden;  // LoRA inner activations; v_hidden is kNone in layer 0
  TensorId w2, a2, v2, g2;                    // [C][rank]
  TensorId w0, a0, v0, k_k, k_a, r_k;         // [C]
  TensorId norm_weight, norm_bias;            // group norm, one group per head
  float norm_epsilon;
  SlotId v_first;  // layer 0 writes it, the others read it
  SlotId out;
};

// logits = weight . LayerNorm(x), for the rows that are asked for.
struct HeadOp {
  SlotId x;
  TensorId norm_weight, norm_bias;
  float epsilon;
  TensorId weight;
};

using Op = std::variant<EmbedOp, ShiftMixOp, LinearOp, Wkv7Op, HeadOp>;

struct Plan {
  std::string architecture;
  uint32_t n_layer = 0, n_embd = 0, n_head = 0, head_size = 0, n_vocab = 0, context_length = 0;
  std::vector<Tensor> tensors;
  std::vector<Slot> slots;
  std::vector<StatePart> state_parts;
  std::vector<Op> ops;

  const Tensor& tensor(TensorId id) const { return tensors.at(static_cast<size_t>(id)); }
  const Slot& slot(SlotId id) const { return slots.at(static_cast<size_t>(id)); }
  size_t state_values_per_layer() const;
  size_t state_values() const { return state_values_per_layer() * n_layer; }
  // Offset, in values, of a part within one layer's share of the state.
  size_t state_part_offset(uint32_t part) const;
  size_t weight_bytes() const;
};

}  // namespace rwkvnative
