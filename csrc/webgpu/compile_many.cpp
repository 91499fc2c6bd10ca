// The ops that work on states, for programs of more than one row: any number of sequences of any length in one dispatch (for each
// block of states: sequence_table.h). The time mix is rows, recurrence, rows: kernels/wkv7_prepare.wgsl, wkv7_chunk.wgsl and
// wkv7_finish.wgsl; for a crowd of one token each it is one kernel, wkv7_step.wgsl. What comes of a sequence does not depend on who
// shares the submit.
#include <algorithm>
#include <bit>
#include <cmath>

#include "core/cost.h"
#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kMostCrowdThreads = 1024;  // the same, where the rows are few
constexpr uint32_t kMostStepGroups = 16;
constexpr uint32_t kStepThreads = 98304;  // of wkv7_step: so many a large device runs at once
constexpr uint32_t kFewRows = 32;  // that do not keep a large device busy with a workgroup each

}  // namespace

// Threads of a workgroup that makes a whole row of `quads`: few idle ones, and not too many for a device.
uint32_t Compiler::row_workgroup(uint32_t quads, uint32_t most_threads) const {
  const uint32_t step = device_.subgroups() ? std::max(32u, subgroup_max_) : 32u;
  const uint32_t most = std::min(most_threads, max_threads_) / step * step;
  const uint32_t each = ceil_div(quads, most);
  return std::min(ceil_div(ceil_div(quads, each), step) * step, most);
}

void Compiler::dispatch_states(const std::string& label, ShaderText text, const char* element, uint32_t element_bytes,
                               Bindings bindings, BindGroupHandle group, Grid grid, uint32_t x, uint32_t layer,
                               uint32_t state_part, const char* states) {
  const StateLayout& layout = model_.states->layout();
  text.constant("kSlotStride", static_cast<uint32_t>(layout.layer_bytes() / element_bytes));
  text.constant("kPartOffset", static_cast<uint32_t>(layout.part(state_part).offset / element_bytes));
  text.text(instantiate(states, {{"TYPE", element}}));
  dispatch(label, text.str(), bindings, std::move(group), grid, x, 1, state_part);
  compiled_.dispatches.back().layer = static_cast<int32_t>(layer);
}

void Compiler::add_shift_mix_many(const ShiftMixOp& op, size_t op_index) {
  const WeightGroup& group = model_.weights->groups(op_index)[0];
  const SlotPlace& x = slot(static_cast<size_t>(op.x));
  const std::string label = message("shift_mix ", op.out.size());
  const bool halves = std::any_of(op.out.begin(), op.out.end(),
                                  [&](SlotId out) { return uses_[static_cast<size_t>(out)].halves_by_producer; });
  if (shape_.rows <= kFewRows && !halves && kept_.count(static_cast<size_t>(op.x)) == 0) {
    tune(label);
    uint32_t chunk = 0;
    ShaderText text = shift_mix_text(op, op_index, chunk);
    text.file("shift_mix_run_states");
    cost_ = shift_mix_cost(plan_, op);
    return dispatch_states(label, text, "vec4<f32>", 16, Bindings::MainStates, bind_main(label, &group), Grid::StatesRows,
                           ceil_div(ceil_div(x.width, 4), chunk), op.layer, op.state_part, "states_here");
  }
  vector(op.norm_weight), vector(op.norm_bias), vector(op.lerp);
  const PlacedRows& lerp = placed(group, op.lerp);
  std::string lerps, mixes, largest, store;
  uint32_t lengths = 0;
  for (uint32_t z = 0; z < op.out.size(); ++z) {
    const SlotPlace& out = slot(static_cast<size_t>(op.out[z]));
    const bool as_halves = uses_[static_cast<size_t>(op.out[z])].halves_by_producer;
    const auto flag = [](bool value) { return value ? "true" : "false"; };
    (tuned_.all.mix_ahead != 0 ? lerps : mixes) +=
        message("let lerp_", z, " = weight_quads(", lerp.at + z * lerp.row_vec4s, "u, thread);\n  ");
    mixes += message("let mix_", z, " = mix_quads(h, previous, lerp_", z, ");\n  ");
    if (as_halves) largest += message("note_largest(", z, "u, quads_magnitude(mix_", z, "), thread);\n  ");
    if (uses_[static_cast<size_t>(op.out[z])].length) {
      largest += message("note_squares(", lengths, "u, mix_", z, ", thread);\n  ");
      store += message("store_length(", lengths++, "u, 4u * ", out.lengths, "u + row, thread);\n  ");
    }
    store += message("store_mix(", z, "u, row, thread, mix_", z, ", ", out.values, "u, ", out.codes, "u, ", out.heads, "u, ", out.halves,
                     "u, ", out.scales, "u, ", flag(out.has_values), ", ", flag(out.has_codes), ", ", flag(as_halves), ");\n  ");
  }
  if (!largest.empty()) largest += "workgroupBarrier();";
  const uint32_t quads = ceil_div(x.width, 4), workgroup = row_workgroup(quads, crowd() ? kMostCrowdThreads : kMostRowThreads);
  const auto kept = kept_.find(static_cast<size_t>(op.x));
  const bool adds_sums = kept != kept_.end();
  ShaderText text = begin_row(x.width, workgroup);
  text.constant("kEpsilon", op.epsilon);
  text.constant("kX", x.values).constant("kXStride", x.values_stride());
  text.constant("kNormWeight", placed(group, op.norm_weight).at).constant("kNormBias", placed(group, op.norm_bias).at);
  text.constant("kHalvesStride", x.halves_stride()).constant("kLengths", std::max(1u, lengths));
  include_halves(text, adds_sums ? 5 : 3, static_cast<uint32_t>(op.out.size()), workgroup);
  text.file("layer_norm").file("quantize_quad");
  std::vector<uint32_t> scalars;
  if (adds_sums) {
    compiled_.activations.move(static_cast<size_t>(op.x), compiled_.free_slot);
    text.constant("kXMoved", slot(static_cast<size_t>(op.x)).values);
    include_sums(text, "kSums", kept->second);
    text.file("x_and_sums");
    scalars = {std::bit_cast<uint32_t>(kept->second.unscale)};
    kept_.erase(kept);
  } else {
    text.file("x_as_it_is");
  }
  text.text(instantiate("shift_mix_many", {{"LERPS", lerps}, {"MIXES", mixes}, {"LARGEST", largest}, {"STORE", store}}));
  cost_ = shift_mix_cost(plan_, op);
  const Bindings bindings = adds_sums ? Bindings::StatesParts : Bindings::StatesHalves;
  dispatch_states(label, text, "vec4<f32>", 16, bindings,
                  adds_sums ? bind_parts(label, bindings, &group, scalars) : bind_main(label, &group, true), Grid::StatesRows, 1,
                  op.layer, op.state_part);
}

// Constants of a kernel with a workgroup a row of `width` values.
ShaderText Compiler::begin_row(uint32_t width, uint32_t workgroup) const {
  const uint32_t quads = ceil_div(width, 4);
  ShaderText text = begin(workgroup, 8);
  text.constant("kWidth", width).constant("kQuads", quads).constant("kPerThread", ceil_div(quads, workgroup));
  text.file("weights").file("activations");
  return text;
}

// What wkv7_step.wgsl reads its second LoRAs' outputs with: from their slots, or as sums that it adds up. The unscales of those.
std::vector<uint32_t> Compiler::wkv7_step_loras(ShaderText& text) {
  std::vector<uint32_t> unscales;
  size_t lora = compiled_.lora_slots;
  for (const char* name : {"w", "a", "v", "g"}) {
    const std::string place = message("kLora_", name);
    Substitutions all = {{"NAME", message("lora_", name)}, {"PLACE", place}};
    if (const auto kept = kept_.find(lora); kept != kept_.end()) {
      include_sums(text, place, kept->second);
      all.insert(all.end(), {{"STRIDE", place + "Stride"}, {"SPLIT_STRIDE", place + "SplitStride"}, {"SPLITS", place + "Splits"},
                             {"SCALES", place + "Scales"}, {"MATRIX", message(unscales.size(), "u")}});
      text.text(instantiate("wkv7_lora_sums", all));
      unscales.push_back(std::bit_cast<uint32_t>(kept->second.unscale));
      kept_.erase(kept);
    } else {
      text.constant(place, slot(lora).values).text(instantiate("wkv7_lora", all));
    }
    ++lora;
  }
  return unscales;
}

// What wkv7_step.wgsl writes its outputs as float16 with, where it does; behind `scalars`, what bounds them.
Substitutions Compiler::wkv7_step_halves(ShaderText& text, const Wkv7Op& op, uint32_t workgroup, std::vector<uint32_t>& scalars) const {
  if (!uses_[static_cast<size_t>(op.out)].bounded) return {{"EXPONENT", ""}, {"HALVES", ""}};
  const SlotPlace& out = slot(static_cast<size_t>(op.out));
  const SlotPlace& gate = slot(static_cast<size_t>(op.g_hidden));
  const auto pieces = [&](size_t i) -> const SlotPlace& { return slot(compiled_.largest_slots + i); };
  text.constant("kOutHalves", out.halves).constant("kHalvesStride", out.halves_stride()).constant("kOutScales", out.scales);
  text.constant("kGateScales", gate.scales).constant("kBounds", static_cast<uint32_t>(scalars.size()));
  text.constant("kPieces", pieces(0).width).constant("kPiecesStride", pieces(0).padded);
  size_t i = 0;
  for (const char* name : {"kLargestR", "kLargestK", "kLargestV", "kLargestVFirst"})
    text.constant(name, 4 * pieces(op.v_hidden == kNone && i == 2 ? 3 : i).values), ++i;
  include_halves(text, 5, 1, workgroup);
  text.file("wkv7_halves");
  const auto n = static_cast<float>(plan_.head_size);
  const float normed = std::sqrt(n) * magnitude(op.norm_weight).value + magnitude(op.norm_bias).value;
  const float bonus = n * magnitude(op.r_k).value * (1 + magnitude(op.k_a).value);
  const float of_gate = magnitude(op.g2).row_length * std::sqrt(static_cast<float>(gate.width)) * 0x1p15f;
  for (const float scalar : {normed, bonus, of_gate}) scalars.push_back(std::bit_cast<uint32_t>(scalar));
  return {{"EXPONENT", "let exponent = out_exponent(number);"}, {"HALVES", "store_out_halves(number, head, exponent, thread);"}};
}

void Compiler::add_wkv7_many(const Wkv7Op& op, size_t op_index) {
  const WeightGroup& group = model_.weights->groups(op_index)[0];
  const uint32_t n = plan_.head_size;
  const auto at = [&](SlotId id) -> const SlotPlace& { return slot(static_cast<size_t>(id)); };
  const SlotPlace& out = at(op.out);
  const bool first_layer = op.v_hidden == kNone;
  const bool quantize = out.has_codes && uses_[static_cast<size_t>(op.out)].codes_by_producer;
  const auto inputs = [&](ShaderText& text) {
    text.constant("kHeadSize", n).constant("kStride", at(op.r).values_stride());
    text.constant("kR", at(op.r).values).constant("kK", at(op.k).values).constant("kV", at(op.v).values);
  };
  const auto loras = [&](ShaderText& text) {
    size_t lora = compiled_.lora_slots;
    for (const char* name : {"kLoraW", "kLoraA", "kLoraV", "kLoraG", "kY"}) text.constant(name, slot(lora++).values);
  };
  const auto weight = [&](ShaderText& text, const char* name, TensorId id) {
    if (id != kNone) vector(id);
    text.constant(name, id == kNone ? 0u : placed(group, id).at);
  };
  const auto before = [&](ShaderText& text) {
    text.constant("kFirstLayer", first_layer).constant("kVFirst", at(op.v_first).values);
    weight(text, "kW0", op.w0), weight(text, "kA0", op.a0), weight(text, "kV0", first_layer ? kNone : op.v0);
    weight(text, "kKK", op.k_k), weight(text, "kKA", op.k_a);
  };
  const auto after = [&](ShaderText& text) {
    weight(text, "kRK", op.r_k), weight(text, "kNormWeight", op.norm_weight), weight(text, "kNormBias", op.norm_bias);
    text.constant("kEpsilon", op.norm_epsilon).constant("kOut", out.values).constant("kHasValues", out.has_values);
    text.constant("kOutCodes", out.codes).constant("kOutHeads", out.heads).constant("kHasCodes", quantize);
    text.file("quantize_quad");
  };

  if (crowd()) {
    // Groups of keys: a thread holds four values of whole quads of keys, and there is at least one thread for each channel.
    const bool few = uint64_t{plan_.n_embd} * shape_.sequences * kMostStepGroups / 4 <= kStepThreads;
    const uint32_t wish = tuning_.wkv_step_groups != 0 ? tuning_.wkv_step_groups : few ? kMostStepGroups : 4;
    uint32_t groups = 4;
    while (groups * 2 <= wish && groups * 2 * (n / 4) <= max_threads_ && n % (8 * groups) == 0) groups *= 2;
    ShaderText text = begin(groups * (n / 4), 8);
    text.file("weights").file("activations");
    inputs(text), before(text), after(text);
    std::vector<uint32_t> scalars = wkv7_step_loras(text);
    text.file("wkv7_head").text(instantiate("wkv7_step", wkv7_step_halves(text, op, groups * (n / 4), scalars)));
    cost_ = wkv7_cost(plan_);
    const Bindings bindings = scalars.empty() ? Bindings::MainStates : Bindings::StatesParts;
    dispatch_states("wkv7 step", text, "vec4<f32>", 16, bindings,
                    scalars.empty() ? bind_main("wkv7 step", &group) : bind_parts("wkv7 step", bindings, &group, scalars),
                    Grid::StatesSequences, plan_.n_head, op.layer, op.state_part);
  } else {
    const uint32_t workgroup = row_workgroup(plan_.n_embd / 4);
    ShaderText prepare;
    prepare.constant("kWorkgroup", workgroup).constant("kQuads", plan_.n_embd / 4);
    prepare.constant("kPerThread", ceil_div(plan_.n_embd / 4, workgroup));
    inputs(prepare), loras(prepare), before(prepare);
    prepare.file("weights").file("activations").file("wkv7_prepare");
    cost_.row_bytes = 13 * sizeof(float) * plan_.n_embd;
    dispatch("wkv7 prepare", prepare.str(), Bindings::Main, bind_main("wkv7 prepare", &group), Grid::Rows, 1);

    // The threads of a row of the state, whole quads of keys each; the values of a workgroup; the rows staged at once, five
    // vectors of a head and the workgroup's values each.
    constexpr uint32_t kLanes = 4;
    const uint32_t values = n % tuning_.wkv_values == 0 && tuning_.wkv_values * kLanes <= max_threads_ ? tuning_.wkv_values : 16;
    const uint32_t row_bytes = 5 * 4 * n + 2 * 4 * values;
    const uint32_t tokens =
        std::clamp((device_.limits().maxComputeWorkgroupStorageSize - 2048) / row_bytes, 1u, tuning_.wkv_tokens);
    ShaderText chunk = begin(values * kLanes, kLanes);
    inputs(chunk), loras(chunk);
    chunk.constant("kLanes", kLanes).constant("kValues", values).constant("kTokens", tokens);
    chunk.file("activations").file("wkv7_chunk");
    cost_ = wkv7_cost(plan_);
    dispatch_states("wkv7 chunk", chunk, "f32", 4, Bindings::MainStates, bind_main("wkv7 chunk", nullptr), Grid::StatesSequences,
                    plan_.n_head * (n / values), op.layer, op.state_part);

    ShaderText finish = begin_row(plan_.n_embd, workgroup);
    inputs(finish), loras(finish), after(finish);
    finish.constant("kHasHalves", uses_[static_cast<size_t>(op.out)].halves_by_producer).constant("kOutHalves", out.halves);
    finish.constant("kOutScales", out.scales).constant("kHalvesStride", out.halves_stride());
    include_halves(finish, 3, 1, workgroup);
    finish.file("wkv7_finish");
    cost_.row_bytes = 6 * sizeof(float) * plan_.n_embd;
    dispatch("wkv7 finish", finish.str(), Bindings::MainHalves, bind_main("wkv7 finish", &group, true), Grid::Rows, 1);
  }
  if (out.has_codes && !quantize) add_quantize(static_cast<size_t>(op.out), Grid::RowsY);
}

}  // namespace rwkvnative::webgpu
