// The time mix: the second LoRA matrices and kernels/wkv7.wgsl, in one dispatch or in two.
#include <algorithm>

#include "core/cost.h"
#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {

// lora_z = z2 . hidden_z for z = w, a, v, g, on float32 activations: these matrices are small and their inputs few.
std::vector<Compiler::LinearMatrix> Compiler::second_loras(const Wkv7Op& op) const {
  struct Lora {
    TensorId weight;
    SlotId hidden;
  };
  std::vector<LinearMatrix> matrices;
  size_t z = 0;
  for (const Lora& lora :
       {Lora{op.w2, op.w_hidden}, Lora{op.a2, op.a_hidden}, Lora{op.v2, op.v_hidden}, Lora{op.g2, op.g_hidden}}) {
    const size_t out = compiled_.lora_slots + z++;
    if (lora.hidden == kNone) continue;  // the first layer has no value residual
    matrices.push_back({lora.weight, static_cast<size_t>(lora.hidden), out, Activation::None, false, true});
  }
  return matrices;
}

void Compiler::add(const Wkv7Op& op, size_t op_index) {
  add_linear("lora", second_loras(op), model_.weights->groups(op_index), false);
  add_wkv7(op, op_index, false);
}

void Compiler::check_wkv7(const Wkv7Op& op) const {
  const uint32_t n = plan_.head_size;
  if (n % 16 != 0) throw InputError(message("[webgpu] wkv7: expected a head size that is a multiple of 16, got ", n));
  for (SlotId id : {op.r, op.k, op.v, op.v_first, op.out}) {
    const uint32_t width = slot(static_cast<size_t>(id)).width;
    if (width != plan_.n_embd) {
      throw InputError(
          message("[webgpu] wkv7: slot ", plan_.slot(id).name, ": expected width ", plan_.n_embd, ", got ", width));
    }
  }
}

// For kernels/wkv7_lora_here.wgsl: lines that load a head's rows of the second LoRA matrices, and lines that sum them up.
void Compiler::add_lora_text(const Wkv7Op& op, const WeightGroup& group, uint32_t lanes, std::string& loads,
                             std::string& sums) {
  loads = "let lora_row = thread / kGroups;\n  let lora_lane = thread % kGroups;\n  ";
  for (const LinearMatrix& lora : second_loras(op)) {
    const Tensor& weight = plan_.tensor(lora.weight);
    const PlacedRows& rows = placed(group, lora.weight);
    const std::string type = lower(traits(weight.type).name);
    const size_t z = lora.out - compiled_.lora_slots;
    const uint32_t octets = ceil_div(weight.ne0, 8), hidden = slot(lora.in).values;
    loads += message("let row", z, " = ", rows.at, "u + (head * kHeadSize + lora_row) * ", rows.row_vec4s, "u;\n  ");
    sums += message("var sum", z, " = 0.0;\n  ");
    for (uint32_t step = 0; step * lanes < octets; ++step) {
      const bool exact = (step + 1) * lanes <= octets;
      const std::string octet = exact ? message("lora_lane + ", step * lanes, "u")
                                      : message("min(lora_lane + ", step * lanes, "u, ", octets - 1, "u)");
      const std::string w = message("w", z, "_", step);
      loads += message("let ", w, " = load_", type, "(row", z, ", ", octet, ", ", octets, "u);\n  ");
      std::string dot = message("lora_dot(unpack_", type, "(", w, "), ", hidden, "u + 2u * (", octet, "))");
      if (!exact) dot = message("select(0.0, ", dot, ", lora_lane + ", step * lanes, "u < ", octets, "u)");
      sums += message("sum", z, " += ", dot, ";\n  ");
    }
    sums += message("keep_lora(", z, "u, lora_row, lora_lane, sum", z, ");\n  ");
    count(rows, weight, false);
  }
  sums += "workgroupBarrier();";
}

void Compiler::add_wkv7(const Wkv7Op& op, size_t op_index, bool with_lora) {
  check_wkv7(op);
  const bool first_layer = op.v_hidden == kNone;
  const std::string label = message(with_lora ? "wkv7 lora" : "wkv7", first_layer ? " first layer" : "");
  tune(one_token() ? label : "wkv7 chunk");
  if (!one_token()) return add_wkv7_many(op, op_index);
  const WeightGroup& group = model_.weights->groups(op_index)[0];
  const uint32_t n = plan_.head_size;
  // Threads of a value: each keeps whole quads of keys.
  uint32_t groups = 1;
  while (groups * 2 <= tuning_.wkv_groups && groups * 2 * n <= max_threads_ && n % (8 * groups) == 0) groups *= 2;
  const uint32_t workgroup = n * groups;
  const auto at = [&](SlotId id) -> const SlotPlace& { return slot(static_cast<size_t>(id)); };
  const SlotPlace& r = at(op.r);
  const SlotPlace& out = at(op.out);
  const bool quantize = out.has_codes && uses_[static_cast<size_t>(op.out)].codes_by_producer;

  ShaderText text = begin(workgroup, std::max(8u, groups));
  text.constant("kHeadSize", n).constant("kGroups", groups).constant("kKeys", n / groups);
  text.constant("kEpsilon", op.norm_epsilon).constant("kFirstLayer", first_layer);
  text.constant("kStride", r.values_stride())
      .constant("kR", r.values)
      .constant("kK", at(op.k).values)
      .constant("kV", at(op.v).values);
  text.constant("kVFirst", at(op.v_first).values).constant("kOut", out.values).constant("kWriteValues", out.has_values);
  size_t lora = compiled_.lora_slots;
  for (const char* name : {"kLoraW", "kLoraA", "kLoraV", "kLoraG"}) if (!with_lora) text.constant(name, slot(lora++).values);
  struct Vector {
    const char* name;
    TensorId id;
  };
  for (const Vector& v : {Vector{"kW0", op.w0}, Vector{"kA0", op.a0}, Vector{"kV0", first_layer ? kNone : op.v0},
                          Vector{"kKK", op.k_k}, Vector{"kKA", op.k_a}, Vector{"kRK", op.r_k},
                          Vector{"kNormWeight", op.norm_weight}, Vector{"kNormBias", op.norm_bias}}) {
    if (v.id != kNone) vector(v.id);
    text.constant(v.name, v.id == kNone ? 0u : placed(group, v.id).at);
  }
  text.file("weights").file("activations");
  std::string store;
  if (quantize) {
    text.constant("kOutCodes", out.codes).constant("kOutHeads", out.heads).file("quantize_quad");
    store = instantiate("wkv7_quantize", {});
  }
  std::string lora_loads, lora_sums;
  if (with_lora) {
    text.file("float_weights");
    add_lora_text(op, group, groups, lora_loads, lora_sums);
  }
  text.text(instantiate("wkv7", {{"QUANTIZE", store},
                                 {"LORA", instantiate(with_lora ? "wkv7_lora_here" : "wkv7_lora_slots", {})},
                                 {"LORA_LOADS", lora_loads},
                                 {"LORA_SUMS", lora_sums}}));
  cost_ = cost_ + wkv7_cost(plan_);
  dispatch_state(label, text, "f32", group, Grid::EachSequence, plan_.n_head, op.layer, op.state_part);
  if (out.has_codes && !quantize) add_quantize(static_cast<size_t>(op.out), Grid::RowsY);
}

}  // namespace rwkvnative::webgpu
