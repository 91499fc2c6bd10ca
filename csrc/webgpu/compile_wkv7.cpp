// The fused time mix (kernels/wkv7.wgsl).
#include <algorithm>
#include <bit>

#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {

void Compiler::add(const Wkv7Op& op, size_t op_index) {
  const WeightGroup& group = model_.weights->groups(op_index)[0];
  const uint32_t n = plan_.head_size;
  const uint32_t groups = std::bit_floor(std::clamp(std::min(tuning_.wkv_groups, max_threads_ / n), 1u, n));
  const uint32_t workgroup = n * groups;
  const uint32_t keys = ceil_div(n, groups);
  const auto at = [&](SlotId id) -> const SlotPlace& { return slot(static_cast<size_t>(id)); };
  const SlotPlace& r = at(op.r);
  const SlotPlace& out = at(op.out);
  for (SlotId id : {op.r, op.k, op.v, op.v_first, op.out}) {
    if (at(id).padded != r.padded) throw InputError(message("[webgpu] wkv7: slot ", plan_.slot(id).name, ": expected the width of r, ", r.width, ", got ", at(id).width));
  }
  const bool first_layer = op.v_hidden == kNone;
  const bool quantize = out.has_codes && uses_[static_cast<size_t>(op.out)].codes_by_producer;

  ShaderText text = begin(workgroup, 8);
  text.constant("kHeadSize", n).constant("kGroups", groups).constant("kKeys", keys).constant("kExact", keys * groups == n);
  text.constant("kEpsilon", op.norm_epsilon).constant("kFirstLayer", first_layer);
  text.constant("kStride", r.values_stride()).constant("kR", r.values).constant("kK", at(op.k).values).constant("kV", at(op.v).values);
  text.constant("kVFirst", at(op.v_first).values).constant("kOut", out.values).constant("kWriteValues", out.has_values);
  struct Vector {
    const char* name;
    TensorId id;
  };
  for (const Vector& v : {Vector{"kW0", op.w0}, Vector{"kA0", op.a0}, Vector{"kV0", first_layer ? kNone : op.v0}, Vector{"kKK", op.k_k},
                          Vector{"kKA", op.k_a}, Vector{"kRK", op.r_k}, Vector{"kNormWeight", op.norm_weight}, Vector{"kNormBias", op.norm_bias}}) {
    if (v.id != kNone) vector(v.id);
    text.constant(v.name, v.id == kNone ? 0u : placed(group, v.id).at);
  }
  text.file("weights").file("activations").file(one_token() ? "sequence_one" : "sequence_many");

  struct Lora {
    const char* name;
    TensorId weight;
    SlotId hidden;
  };
  for (const Lora& lora : {Lora{"w", op.w2, op.w_hidden}, Lora{"a", op.a2, op.a_hidden}, Lora{"v", op.v2, op.v_hidden}, Lora{"g", op.g2, op.g_hidden}}) {
    if (lora.hidden == kNone) {
      text.text(instantiate("wkv7_lora_none", {{"NAME", lora.name}}));
      continue;
    }
    const Tensor& weight = plan_.tensor(lora.weight);
    const SlotPlace& hidden = at(lora.hidden);
    if (hidden.width != weight.ne0) throw InputError(message("[webgpu] ", weight.name, ": expected ne0 ", hidden.width, ", got ", weight.ne0));
    const PlacedRows& rows = placed(group, lora.weight);
    const bool is_float = traits(weight.type).block_values == 1;
    const std::string type = lower(traits(weight.type).name);
    text.file(is_float ? "float_weights" : "decode_" + type);
    if (!is_float) text.file("dot_f32");
    const uint32_t units = is_float ? ceil_div(weight.ne0, 8) : weight.ne0 / 32;
    text.text(instantiate(is_float ? "wkv7_lora_float" : "wkv7_lora_quant", {{"NAME", lora.name},
                                                                            {"TYPE", type},
                                                                            {"UNITS", message(units)},
                                                                            {"STEPS", message(ceil_div(units, groups))},
                                                                            {"EXACT", units % groups == 0 ? "true" : "false"},
                                                                            {"STRIDE", message(rows.row_vec4s)},
                                                                            {"WEIGHTS", message(rows.at)},
                                                                            {"INPUT", message(hidden.values)},
                                                                            {"INPUT_STRIDE", message(hidden.values_stride())}}));
  }
  std::string store;
  if (quantize) {
    text.constant("kOutCodes", out.codes).constant("kOutHeads", out.heads).file("quantize_quad");
    store = instantiate("wkv7_quantize", {});
  }
  text.text(instantiate("wkv7", {{"QUANTIZE", store}}));
  const std::string label = first_layer ? "wkv7 first layer" : "wkv7";
  dispatch(label, text.str(), one_token() ? Bindings::MainState : Bindings::MainStateMany, bind_main(label, &group), Grid::EachSequence, plan_.n_head, 1,
           op.state_part, model_.state_layout->offset(op.layer, op.state_part));
  if (out.has_codes && !quantize) add_quantize(static_cast<size_t>(op.out), Grid::RowsY);
}

}  // namespace rwkvnative::webgpu
