// RWKV-7 ("Goose", https://arxiv.org/abs/2503.14456), as the GGUF contract `rwkv7` stores it.
//
// With mix(z) = h + (h_prev - h) * lerp_z, per layer:
//   h   = LN(x)
//   r, k, v = W_r mix(r), W_k mix(k), W_v mix(v)
//   w   = exp(-exp(-0.5) sigmoid(w0 + w2 tanh(w1 mix(w))))      decay
//   a   = sigmoid(a0 + a2 (a1 mix(a)))                          in-context learning rate
//   g   = g2 sigmoid(g1 mix(g))                                 gate
//   v   = v + (v_first - v) sigmoid(v0 + v2 (v1 mix(v)))        value residual; layer 0: v_first = v
//   kk  = k k_k / |k k_k|  per head;   k = k (1 + (a - 1) k_a)
//   S   = S diag(w) - (S kk) (kk a)^T + v k^T                   per head, S[value][key]
//   y   = groupnorm(S r) + v sum(r k r_k)
//   x  += W_o (y g)
//   x  += W_value relu(W_key mix(LN(x)))^2
#include <string>

#include "core/architecture.h"
#include "core/error.h"

namespace rwkvnative {
namespace {

constexpr float kGroupNormEpsilon = 64e-5f;  // fixed by the architecture

class Rwkv7Builder {
 public:
  explicit Rwkv7Builder(const ModelSource& source)
      : source_(source), C_(source.size("n_embd")), F_(source.size("n_ff")), epsilon_(source.real("layer_norm_epsilon")) {
    plan_.architecture = source.architecture();
    plan_.n_layer = source.size("n_layer");
    plan_.n_embd = C_;
    plan_.head_size = source.size("head_size");
    plan_.n_vocab = source.size("n_vocab");
    plan_.context_length = source.size("context_length");
    if (plan_.head_size % 16 != 0 || plan_.head_size > 256)
      throw InputError(message("head_size: expected a multiple of 16 up to 256, got ", plan_.head_size));
    if (C_ % plan_.head_size != 0)
      throw InputError(message("n_embd: expected a multiple of head_size ", plan_.head_size, ", got ", C_));
    if (!(epsilon_ > 0)) throw InputError(message("layer_norm_epsilon: expected a positive number, got ", epsilon_));
    plan_.n_head = C_ / plan_.head_size;
    plan_.state_parts = {{"att_shift", {C_}}, {"ffn_shift", {C_}}, {"wkv", {plan_.n_head, plan_.head_size, plan_.head_size}}};
  }

  Plan build() {
    x_ = slot("x", C_);
    v_first_ = slot("v_first", C_);
    embed();
    for (uint32_t layer = 0; layer < plan_.n_layer; ++layer) {
      time_mix(layer);
      channel_mix(layer);
    }
    plan_.ops.push_back(HeadOp{
        .x = x_,
        .norm_weight = vector("output_norm.weight"),
        .norm_bias = vector("output_norm.bias"),
        .epsilon = epsilon_,
        .weight = matrix("output.weight", C_, plan_.n_vocab),
    });
    return std::move(plan_);
  }

 private:
  enum StatePartIndex : uint32_t { kAttShift, kFfnShift, kWkv };

  void embed() {
    plan_.ops.push_back(EmbedOp{
        .table = matrix("token_embd.weight", C_, plan_.n_vocab),
        .norm_weight = vector("token_embd_norm.weight"),
        .norm_bias = vector("token_embd_norm.bias"),
        .epsilon = epsilon_,
        .out = x_,
    });
  }

  void time_mix(uint32_t layer) {
    const std::string blk = "blk." + std::to_string(layer) + ".";
    const uint32_t decay_rank = source_.size("decay_rank"), iclr_rank = source_.size("iclr_rank");
    const uint32_t value_rank = source_.size("value_rank"), gate_rank = source_.size("gate_rank");
    const bool first = layer == 0;

    const SlotId xr = slot("xr", C_), xw = slot("xw", C_), xk = slot("xk", C_), xv = slot("xv", C_), xa = slot("xa", C_),
                 xg = slot("xg", C_);
    plan_.ops.push_back(ShiftMixOp{
        .x = x_,
        .norm_weight = vector(blk + "attn_norm.weight"),
        .norm_bias = vector(blk + "attn_norm.bias"),
        .epsilon = epsilon_,
        .layer = layer,
        .state_part = kAttShift,
        .lerp = add(source_.vectors(blk + "time_mix_lerp_fused.weight", C_, 6)),
        .out = {xr, xw, xk, xv, xa, xg},
    });

    const SlotId r = slot("r", C_), k = slot("k", C_), v = slot("v", C_), y = slot("y", C_);
    const SlotId w_hidden = slot("w_hidden", decay_rank), a_hidden = slot("a_hidden", iclr_rank),
                 g_hidden = slot("g_hidden", gate_rank);
    const SlotId v_hidden = first ? kNone : slot("v_hidden", value_rank);
    LinearOp in{{
        {.weight = matrix(blk + "time_mix_receptance.weight", C_, C_), .in = xr, .out = r},
        {.weight = matrix(blk + "time_mix_key.weight", C_, C_), .in = xk, .out = k},
        {.weight = matrix(blk + "time_mix_value.weight", C_, C_), .in = xv, .out = v},
        {.weight = matrix(blk + "time_mix_w1.weight", C_, decay_rank), .in = xw, .out = w_hidden, .activation = Activation::Tanh},
        {.weight = matrix(blk + "time_mix_a1.weight", C_, iclr_rank), .in = xa, .out = a_hidden},
        {.weight = matrix(blk + "time_mix_g1.weight", C_, gate_rank), .in = xg, .out = g_hidden, .activation = Activation::Sigmoid},
    }};
    if (!first) in.parts.push_back({.weight = matrix(blk + "time_mix_v1.weight", C_, value_rank), .in = xv, .out = v_hidden});
    plan_.ops.push_back(std::move(in));

    plan_.ops.push_back(Wkv7Op{
        .layer = layer,
        .state_part = kWkv,
        .r = r,
        .k = k,
        .v = v,
        .w_hidden = w_hidden,
        .a_hidden = a_hidden,
        .v_hidden = v_hidden,
        .g_hidden = g_hidden,
        .w2 = matrix(blk + "time_mix_w2.weight", decay_rank, C_),
        .a2 = matrix(blk + "time_mix_a2.weight", iclr_rank, C_),
        .v2 = first ? kNone : matrix(blk + "time_mix_v2.weight", value_rank, C_),
        .g2 = matrix(blk + "time_mix_g2.weight", gate_rank, C_),
        .w0 = vector(blk + "time_mix_w0.weight"),
        .a0 = vector(blk + "time_mix_a0.weight"),
        .v0 = first ? kNone : vector(blk + "time_mix_v0.weight"),
        .k_k = vector(blk + "time_mix_k_k.weight"),
        .k_a = vector(blk + "time_mix_k_a.weight"),
        .r_k = vector(blk + "time_mix_r_k.weight"),
        .norm_weight = vector(blk + "time_mix_ln.weight"),
        .norm_bias = vector(blk + "time_mix_ln.bias"),
        .norm_epsilon = kGroupNormEpsilon,
        .v_first = v_first_,
        .out = y,
    });

    plan_.ops.push_back(LinearOp{
        {{.weight = matrix(blk + "time_mix_output.weight", C_, C_), .in = y, .out = x_, .accumulate = true}}});
  }

  void channel_mix(uint32_t layer) {
    const std::string blk = "blk." + std::to_string(layer) + ".";
    const SlotId xk = slot("ffn_xk", C_), hidden = slot("ffn_hidden", F_);
    plan_.ops.push_back(ShiftMixOp{
        .x = x_,
        .norm_weight = vector(blk + "attn_norm_2.weight"),
        .norm_bias = vector(blk + "attn_norm_2.bias"),
        .epsilon = epsilon_,
        .layer = layer,
        .state_part = kFfnShift,
        .lerp = vector(blk + "channel_mix_lerp_k.weight"),
        .out = {xk},
    });
    plan_.ops.push_back(LinearOp{{{.weight = matrix(blk + "channel_mix_key.weight", C_, F_),
                                   .in = xk,
                                   .out = hidden,
                                   .activation = Activation::ReluSquared}}});
    plan_.ops.push_back(LinearOp{
        {{.weight = matrix(blk + "channel_mix_value.weight", F_, C_), .in = hidden, .out = x_, .accumulate = true}}});
  }

  TensorId add(Tensor tensor) {
    plan_.tensors.push_back(std::move(tensor));
    return static_cast<TensorId>(plan_.tensors.size()) - 1;
  }
  TensorId matrix(const std::string& name, uint32_t ne0, uint32_t ne1) { return add(source_.matrix(name, ne0, ne1)); }
  TensorId vector(const std::string& name) { return add(source_.vector(name, C_)); }

  // Slots are shared by all layers: the same name is the same buffer.
  SlotId slot(const std::string& name, uint32_t width) {
    for (size_t i = 0; i < plan_.slots.size(); ++i)
      if (plan_.slots[i].name == name) return static_cast<SlotId>(i);
    plan_.slots.push_back({name, width});
    return static_cast<SlotId>(plan_.slots.size()) - 1;
  }

  const ModelSource& source_;
  const uint32_t C_, F_;
  const float epsilon_;
  Plan plan_;
  SlotId x_ = kNone, v_first_ = kNone;
};

}  // namespace

Plan build_rwkv7(const ModelSource& source) { return Rwkv7Builder(source).build(); }

}  // namespace rwkvnative
