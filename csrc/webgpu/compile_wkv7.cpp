// The time mix: the second LoRA matrices and kernels/wkv7.wgsl; or, of one token, kernels/wkv7_rows.wgsl.
#include <algorithm>
#include <bit>

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
  add_wkv7(op, op_index);
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

// Where the channels' vectors lie.
void Compiler::wkv7_vectors(ShaderText& text, const Wkv7Op& op, const WeightGroup& group) const {
  struct Vector {
    const char* name;
    TensorId id;
  };
  for (const Vector& v : {Vector{"kW0", op.w0}, Vector{"kA0", op.a0}, Vector{"kV0", op.v_hidden == kNone ? kNone : op.v0},
                          Vector{"kKK", op.k_k}, Vector{"kKA", op.k_a}, Vector{"kRK", op.r_k},
                          Vector{"kNormWeight", op.norm_weight}, Vector{"kNormBias", op.norm_bias}}) {
    if (v.id != kNone) vector(v.id);
    text.constant(v.name, v.id == kNone ? 0u : placed(group, v.id).at);
  }
}

void Compiler::add_wkv7(const Wkv7Op& op, size_t op_index) {
  check_wkv7(op);
  const bool first_layer = op.v_hidden == kNone;
  const std::string label = message("wkv7", first_layer ? " first layer" : "");
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
  for (const char* name : {"kLoraW", "kLoraA", "kLoraV", "kLoraG"}) text.constant(name, slot(lora++).values);
  wkv7_vectors(text, op, group);
  text.file("weights").file("activations").file("wkv7_head");
  std::string store;
  if (quantize) {
    text.constant("kOutCodes", out.codes).constant("kOutHeads", out.heads).file("quantize_quad");
    store = instantiate("wkv7_quantize", {});
  }
  text.text(instantiate("wkv7", {{"QUANTIZE", store}}));
  cost_ = cost_ + wkv7_cost(plan_);
  dispatch_state(label, text, "f32", group, Grid::EachSequence, plan_.n_head, op.layer, op.state_part);
  if (out.has_codes && !quantize) add_quantize(static_cast<size_t>(op.out), Grid::RowsY);
}

// ---- with the second LoRA matrices, without the group norm -------------------------------------------------------------

namespace {

uint32_t rows_values(const Tuning& tuning, uint32_t head_size) {
  uint32_t values = std::min(tuning.wkv_values, head_size);
  while (head_size % values != 0) values /= 2;
  return values;
}

uint32_t rows_lanes(const Tuning& tuning, uint32_t head_size, uint32_t values, uint32_t max_threads) {
  uint32_t lanes = 1;
  while (lanes * 2 <= tuning.wkv_lanes && lanes * 2 * values <= max_threads && head_size % (8 * lanes) == 0) lanes *= 2;
  return lanes;
}

// Lines for wkv7_rows.wgsl: the loads of one row of a second LoRA matrix by `lanes` threads, and the sum of their products.
struct LoraRow {
  const char* name;   // of the sum: sum_<name>
  const char* row;    // WGSL expressions
  const char* lane;
  uint32_t lanes;
};
struct LoraText {
  std::string loads, sums;
};

LoraText lora_text(const LoraRow& lora, const Tensor& weight, const PlacedRows& rows, uint32_t hidden) {
  LoraText text;
  const std::string type = lower(traits(weight.type).name);
  const uint32_t octets = ceil_div(weight.ne0, 8);
  text.loads = message("let row_", lora.name, " = row_at(", rows.at, "u, ", lora.row, ", ", rows.row_vec4s, "u, ", rows.rows,
                       "u);\n  ");
  text.sums = message("var sum_", lora.name, " = 0.0;\n  ");
  for (uint32_t step = 0; step * lora.lanes < octets; ++step) {
    const bool exact = (step + 1) * lora.lanes <= octets;
    const std::string wanted = message(lora.lane, " + ", step * lora.lanes, "u");
    const std::string octet = exact ? wanted : message("min(", wanted, ", ", octets - 1, "u)");
    const std::string w = message(lora.name, "_", step);
    text.loads += message("let ", w, " = load_", type, "(row_", lora.name, ", ", octet, ", ", octets, "u);\n  ");
    std::string dot = message("lora_dot(unpack_", type, "(", w, "), ", hidden, "u + 2u * (", octet, "))");
    if (!exact) dot = message("select(0.0, ", dot, ", ", wanted, " < ", octets, "u)");
    text.sums += message("sum_", lora.name, " += ", dot, ";\n  ");
  }
  return text;
}

}  // namespace

std::string Compiler::wkv7_rows_label(const Wkv7Op& op) {
  return message("wkv7_rows", op.v_hidden == kNone ? " first layer" : "");
}

uint32_t Compiler::wkv7_rows_threads() const {
  const uint32_t n = plan_.head_size, values = rows_values(tuning_, n), lanes = rows_lanes(tuning_, n, values, max_threads_);
  const uint32_t threads = values * lanes;
  return threads % n == 0 && std::has_single_bit(threads / n) && threads / n <= 32 ? threads : 0;
}

std::array<std::pair<const char*, uint32_t>, 4> Compiler::wkv7_rows_outs() const {
  const auto at = [&](size_t z) { return slot(compiled_.lora_slots + z).values; };
  return {{{"kY", at(0)}, {"kRest", at(1)}, {"kGate", at(2)}, {"kGateWeight", at(3)}}};
}

void Compiler::add_wkv7_rows(const Wkv7Op& op, size_t op_index) {
  check_wkv7(op);
  const bool first_layer = op.v_hidden == kNone;
  const std::string label = wkv7_rows_label(op);
  tune(label);
  const WeightGroup& group = model_.weights->groups(op_index)[0];
  const uint32_t n = plan_.head_size, values = rows_values(tuning_, n), lanes = rows_lanes(tuning_, n, values, max_threads_);
  const uint32_t workgroup = wkv7_rows_threads(), key_lanes = workgroup / n;
  const auto at = [&](SlotId id) { return slot(static_cast<size_t>(id)).values; };

  ShaderText text = begin(workgroup, std::max(lanes, key_lanes));
  text.constant("kHeadSize", n).constant("kValues", values).constant("kLanes", lanes).constant("kChannels", plan_.n_embd);
  text.constant("kFirstLayer", first_layer).constant("kR", at(op.r)).constant("kK", at(op.k)).constant("kV", at(op.v));
  text.constant("kVFirst", at(op.v_first));
  for (const auto& [name, out] : wkv7_rows_outs()) text.constant(name, out);
  wkv7_vectors(text, op, group);
  text.file("weights").file("activations").file("float_weights").file("wkv7_head");
  const auto lora = [&](const LoraRow& row, TensorId weight, SlotId hidden) {
    const PlacedRows& rows = placed(group, weight);
    count(rows, plan_.tensor(weight), false);
    return lora_text(row, plan_.tensor(weight), rows, at(hidden));
  };
  LoraText values_text = lora({"w", "channel", "key_lane", key_lanes}, op.w2, op.w_hidden);
  const LoraText a = lora({"a", "channel", "key_lane", key_lanes}, op.a2, op.a_hidden);
  const LoraText v = first_layer ? LoraText{} : lora({"v", "value_channel", "lane", lanes}, op.v2, op.v_hidden);
  const LoraText g = lora({"g", "value_channel", "lane", lanes}, op.g2, op.g_hidden);
  values_text.loads += a.loads + v.loads;
  values_text.sums += a.sums + v.sums + (first_layer ? "let sum_v = 0.0;\n  " : "");
  const uint32_t value_workgroups = plan_.n_head * (n / values);
  text.constant("kValueWorkgroups", value_workgroups);
  text.text(instantiate("wkv7_rows", {{"LOADS", values_text.loads},
                                      {"SUMS", values_text.sums},
                                      {"GATE_LOADS", g.loads},
                                      {"GATE_SUMS", g.sums}}));
  cost_ = cost_ + wkv7_cost(plan_);
  dispatch_state(label, text, "f32", group, Grid::EachSequence, value_workgroups + ceil_div(plan_.n_embd, values), op.layer,
                 op.state_part);
}

}  // namespace rwkvnative::webgpu
