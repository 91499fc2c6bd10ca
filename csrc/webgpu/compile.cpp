#include "webgpu/compile.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/cost.h"
#include "core/error.h"
#include "core/pack.h"
#include "webgpu/experiment.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kMaxBiased = 1 << 16;  // biased tokens of one submit

}  // namespace

std::string lower(std::string_view name) {
  std::string out(name);
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

Compiled compile(const LoadedParts& model, const Shape& shape) { return Compiler(model, shape).run(); }

Compiler::Compiler(const LoadedParts& model, const Shape& shape)
    : model_(model), device_(*model.device), tuned_(device_.options().tuned), tuning_(tuned_.all), plan_(*model.plan), shape_(shape) {
  if (shape.rows == 0 || shape.sequences == 0 || shape.sequences > shape.rows) {
    throw InputError(message("[webgpu] compile: ", shape.rows, " rows for ", shape.sequences,
                             " sequences; expected at least one each, and a row for each sequence"));
  }
  max_threads_ = std::min(device_.limits().maxComputeInvocationsPerWorkgroup, device_.limits().maxComputeWorkgroupSizeX);
  subgroup_max_ = device_.subgroup_max_size();
}

Compiled Compiler::run() {
  plan_slots();
  allocate();
  choose_tiles();
  compiled_.covers_state = covers_state();
  compiled_.reads_other_states = one_token() && compiled_.covers_state;
  for (size_t i = 0; i < plan_.ops.size(); ++i) {
    layer_ = layer_of(plan_.ops[i], layer_);
    const size_t op = i, begin = compiled_.dispatches.size();
    if (const size_t fused = add_fused(i); fused != 0) {
      i += fused - 1;
    } else {
      std::visit([&](const auto& op) { add(op, i); }, plan_.ops[i]);
    }
    if (!model_.weights->groups(op).empty()) mark_unit(begin, model_.weights->groups(op).front().unit);
  }
  layer_ = -1;
  add_choice();
  if (model_.weights->streams()) {
    find_runs();
    add_carries();
    request_kernels();
  }
  model_.pipelines->finish();
  check_grids();
  return std::move(compiled_);
}

// Dawn does not look where it does not validate.
void Compiler::check_grids() const {
  const uint32_t most = device_.limits().maxComputeWorkgroupsPerDimension;
  for (const Dispatch& dispatch : compiled_.dispatches) {
    if (dispatch.grid == Grid::Bias || dispatch.grid == Grid::History) continue;  // x are threads
    if (const uint32_t wanted = std::max(dispatch.x, shape_.rows); wanted > most)
      throw DeviceError(message("[webgpu] ", device_.info().name, ": ", dispatch.label, " needs a grid of ", wanted,
                                " workgroups, the device allows ", most));
  }
}

void Compiler::mark_unit(size_t begin, uint32_t unit) {
  if (unit == kNoUnit || !model_.weights->units()[unit].streams()) return;
  for (size_t i = begin; i < compiled_.dispatches.size(); ++i) compiled_.dispatches[i].unit = unit;
}

void Compiler::find_runs() {
  for (size_t i = 0; i < compiled_.dispatches.size(); ++i) {
    const uint32_t unit = compiled_.dispatches[i].unit;
    if (i == 0 || unit != compiled_.runs.back().unit) compiled_.runs.push_back({.unit = unit, .begin = i});
    compiled_.runs.back().end = i + 1;
  }
  uint32_t next = kNoUnit;
  for (size_t i = compiled_.runs.size(); i-- > 0;) {
    compiled_.runs[i].next = next;
    if (compiled_.runs[i].unit != kNoUnit) next = compiled_.runs[i].unit;
  }
}

bool Compiler::reads_codes(TensorId weight) const {
  return model_.int8 && tuned_.int8 && traits(plan_.tensor(weight).type).block_values > 1;
}

uint32_t Compiler::tile(uint32_t rows) const {
  const uint32_t most = tuning_.tile != 0 ? tuning_.tile : device_.info().kind == DeviceKind::Software ? 2 : 8;
  return std::min(std::bit_ceil(most), std::bit_ceil(rows));
}

const Tensor& Compiler::vector(TensorId id) const {
  const Tensor& tensor = plan_.tensor(id);
  if (tensor.type != DType::F32)
    throw InputError(message("[webgpu] ", tensor.name, ": expected F32, got ", traits(tensor.type).name));
  return tensor;
}

// Which forms of each slot are read, and whether its producer can write codes.
void Compiler::plan_slots() {
  uses_.resize(plan_.slots.size());
  const MatMat form = matmat(shape_.rows);
  const bool reads_halves = takes_halves(form), reads_values = form == MatMat::Float;
  const auto use = [&](SlotId id) -> SlotUse& { return uses_.at(static_cast<size_t>(id)); };
  for (const Op& op : plan_.ops) {
    if (const auto* mix = std::get_if<ShiftMixOp>(&op)) {
      use(mix->x).values = true;
    } else if (const auto* linear = std::get_if<LinearOp>(&op)) {
      for (const LinearPart& part : linear->parts) {
        (reads_halves ? use(part.in).halves : reads_codes(part.weight) && !reads_values ? use(part.in).codes : use(part.in).values) =
            true;
        if (part.accumulate) use(part.out).values = true;
      }
    } else if (const auto* wkv7 = std::get_if<Wkv7Op>(&op)) {
      for (SlotId id : {wkv7->r, wkv7->k, wkv7->v, wkv7->v_first}) use(id).values = true;
      for (SlotId id : {wkv7->w_hidden, wkv7->a_hidden, wkv7->v_hidden, wkv7->g_hidden}) {
        if (id != kNone) (reads_halves ? use(id).halves : use(id).values) = true;
      }
    } else if (const auto* head = std::get_if<HeadOp>(&op)) {
      use(head->x).values = true;
    }
  }
  for (const Op& op : plan_.ops) {
    if (const auto* embed = std::get_if<EmbedOp>(&op)) {
      use(embed->out).codes_by_producer = false;
    } else if (const auto* wkv7 = std::get_if<Wkv7Op>(&op)) {
      use(wkv7->out).codes_by_producer = plan_.head_size % 32 == 0;
    } else if (const auto* linear = std::get_if<LinearOp>(&op)) {
      // A quantizing dispatch writes codes only, for all of its parts.
      bool codes_only = true;
      for (const LinearPart& part : linear->parts)
        codes_only = codes_only && !part.accumulate && use(part.out).codes && !use(part.out).values;
      for (const LinearPart& part : linear->parts) use(part.out).codes_by_producer = codes_only;
    }
  }
  // Kernels that make whole rows: of compile_many.cpp, and reduce.wgsl.
  for (const Op& op : plan_.ops) {
    if (one_token()) break;
    if (const auto* mix = std::get_if<ShiftMixOp>(&op)) {
      for (SlotId out : mix->out) use(out).halves_by_producer = use(out).halves;
    } else if (const auto* wkv7 = std::get_if<Wkv7Op>(&op); wkv7 != nullptr && !crowd()) {
      use(wkv7->out).halves_by_producer = use(wkv7->out).halves;
    } else if (const auto* linear = std::get_if<LinearOp>(&op)) {
      for (const LinearPart& part : linear->parts) {
        if (!part.accumulate) use(part.out).halves_by_producer = use(part.out).halves;
      }
    }
  }
  for (SlotUse& slot_use : uses_) {
    const bool written_otherwise =
        (slot_use.codes && slot_use.codes_by_producer) || (slot_use.halves && slot_use.halves_by_producer);
    if (!written_otherwise || (slot_use.codes && !slot_use.codes_by_producer) ||
        (slot_use.halves && !slot_use.halves_by_producer)) {
      slot_use.values = true;
    }
  }
}

void Compiler::allocate() {
  Activations& act = compiled_.activations;
  const auto whole_tiles = [&](uint32_t n) {
    const uint32_t tile_rows = matmat(n) == MatMat::None ? tile(n) : tiling(n).tile.rows;
    return ceil_div(n, tile_rows) * tile_rows;
  };
  const uint32_t rows = whole_tiles(shape_.rows);
  for (size_t i = 0; i < plan_.slots.size(); ++i)
    act.add(plan_.slots[i].width, rows, uses_[i].values, uses_[i].codes, uses_[i].halves);
  const bool has_wkv7 =
      std::any_of(plan_.ops.begin(), plan_.ops.end(), [](const Op& op) { return std::holds_alternative<Wkv7Op>(op); });
  for (int z = 0; z < (one_token() ? 4 : 5) && has_wkv7; ++z) {
    const size_t id = act.add(plan_.n_embd, rows, true, false);
    if (z == 0) compiled_.lora_slots = id;
  }
  // Behind all else: kernels that read neither are the same texts, and so compiled once, whatever is read out of how many sequences.
  const uint32_t head_alloc = whole_tiles(head_rows());
  const MatMat head_form = matmat(head_rows());
  const bool wants_logits = shape_.readout != Readout::None && shape_.readout != Readout::Hidden;
  bool head_codes = false;
  bool has_head = false;
  for (const Op& op : plan_.ops) {
    if (const auto* head = std::get_if<HeadOp>(&op)) {
      head_codes = wants_logits && head_form == MatMat::None && reads_codes(head->weight);
      has_head = true;
    }
  }
  if (!has_head && shape_.readout != Readout::None) throw InputError("[webgpu] compile: the plan has no head to read from");
  const bool hidden_values = !head_codes || shape_.readout == Readout::Hidden;
  const bool head_halves = wants_logits && takes_halves(head_form);
  compiled_.hidden_slot = act.add(plan_.n_embd, head_alloc, hidden_values, head_codes, head_halves);
  compiled_.logits_slot = act.add(wants_logits ? plan_.n_vocab : 1, head_alloc, true, false);
  act.allocate(device_);
  compiled_.sums = device_.create_buffer("sums", std::max<uint64_t>(16, 4 * sums_values()),
                                         WGPUBufferUsage_Storage);

  constexpr auto kUsage = WGPUBufferUsage_Storage | WGPUBufferUsage_CopyDst | WGPUBufferUsage_CopySrc;
  compiled_.params = device_.create_buffer("params", 16 * (1 + uint64_t{shape_.sequences} + shape_.rows), kUsage);
  compiled_.tokens = device_.create_buffer("tokens", 4 * uint64_t{shape_.sequences}, kUsage);
  compiled_.dummy = device_.create_buffer("no weights", 16, kUsage);
  if (shape_.readout == Readout::Candidates || shape_.readout == Readout::Argmax || shape_.readout == Readout::Draw) {
    compiled_.bias =
        device_.create_buffer("bias", 16 * (1 + uint64_t{std::min(kMaxBiased, plan_.n_vocab * shape_.sequences)}), kUsage);
  }
}

// ---- text
// ---------------------------------------------------------------------------------------------------------------------

// What a kernel that reads rows of matrices lacks: where they are, and which threads share one. Declarations of WGSL come in any
// order.
std::string layout_text(const std::string& source, uint32_t layout) {
  ShaderText text;
  if (source.find("row_word(") == std::string::npos) return {};  // of weights.wgsl
  if (layout != 1) text.constant("kAbreast", layout == 0 ? UINT32_MAX : layout);
  text.file(layout == 1 ? "layout_rows" : "layout_abreast");
  if (source.find("lane_of(") != std::string::npos) text.file(layout == 1 ? "lanes_neighbours" : "lanes_apart");
  return text.str();
}

bool Compiler::use_subgroups(uint32_t workgroup, uint32_t lanes) const {
  return device_.subgroups() && tuning_.subgroups != 0 && lanes <= device_.subgroup_min_size() && workgroup % subgroup_max_ == 0;
}

ShaderText Compiler::begin(uint32_t workgroup, uint32_t lanes) const {
  ShaderText text;
  text.constant("kWorkgroup", workgroup).constant("kWorkgroupPowerOfTwo", std::bit_ceil(workgroup));
  if (use_subgroups(workgroup, lanes)) {
    text.enable("subgroups").constant("kSubgroupMin", device_.subgroup_min_size()).file("reduce_subgroups");
    text.constant("kOneSubgroupSize", device_.subgroup_min_size() == subgroup_max_);
  } else {
    text.file("reduce_shared");
  }
  return text;
}

uint32_t Compiler::norm_workgroup(uint32_t least) const {
  const uint32_t step = device_.subgroups() ? std::max(32u, subgroup_max_) : 32u;
  return std::min(std::max(tuning_.norm_workgroup, ceil_div(least, step) * step), max_threads_) / step * step;
}

// Quads of a row that a workgroup writes, a multiple of the 8 of a quantized block.
uint32_t Compiler::norm_chunk(uint32_t mixes) const {
  return std::max(8u, std::min(tuning_.norm_chunk, max_threads_ / mixes) / 8 * 8);
}

ShaderText Compiler::begin_norm(uint32_t width, float epsilon, uint32_t workgroup, uint32_t lanes) const {
  const uint32_t quads = ceil_div(width, 4);
  ShaderText text = begin(workgroup, lanes);
  text.constant("kWidth", width)
      .constant("kQuads", quads)
      .constant("kPerThread", ceil_div(quads, workgroup))
      .constant("kEpsilon", epsilon);
  text.file("weights").file("activations").file("layer_norm").file("quantize_quad");
  return text;
}

BindGroupHandle Compiler::bind_main(const std::string& label, const WeightGroup* group, bool halves) const {
  const Pipelines::Range weights = group == nullptr
                                       ? Pipelines::Range{compiled_.dummy.get(), 0, 16}
                                       : Pipelines::Range{model_.weights->buffer(*group), group->offset, group->bytes};
  const Pipelines::Range ranges[] = {weights, {compiled_.activations.buffer().get()}, {compiled_.params.get()},
                                     {compiled_.activations.halves().get()}};
  return model_.pipelines->bind(label, halves ? Bindings::MainHalves : Bindings::Main, std::span(ranges, halves ? 4 : 3));
}

void Compiler::dispatch(const std::string& label, const std::string& source, Bindings bindings, BindGroupHandle group,
                        Grid grid, uint32_t x, uint32_t tile, uint32_t state_part) {
  const bool embeds = bindings == Bindings::Embed;
  const std::string whole = source + layout_text(source, embeds ? 1 : model_.layout);
  const bool changed = tuned_.experiment != Experiment::None && cost_.weight_bytes != 0 && !embeds;
  const std::string text = changed ? changed_for(tuned_.experiment, whole) : whole;
  const bool streams = model_.weights->streams();
  if (streams) texts_.push_back({text, bindings});
  compiled_.dispatches.push_back({.label = label,
                                  .kernel = streams ? nullptr : &model_.pipelines->request(label, text, bindings),
                                  .group = std::move(group),
                                  .grid = grid,
                                  .x = x,
                                  .tile = tile,
                                  .state_part = state_part,
                                  .layer = layer_,
                                  .cost = std::exchange(cost_, {})});
}

void Compiler::count(const PlacedRows& rows, const Tensor& matrix, bool int8) {
  const Cost cost = matrix_cost(matrix, rows.rows, int8);
  cost_.weight_bytes += uint64_t{rows.rows} * rows.row_vec4s * 16;
  cost_.row_bytes += cost.row_bytes;
  cost_.row_operations += cost.row_operations;
  if (int8) cost_.arithmetic = Arithmetic::Int8;
}

void Compiler::dispatch_state(const std::string& label, const ShaderText& text, const char* element,
                              const WeightGroup& group, Grid grid, uint32_t x, uint32_t layer, uint32_t state_part) {
  const auto source = [&](const char* state) {
    ShaderText whole = text;
    return whole.text(instantiate(state, {{"TYPE", element}})).file("sequence_one").str();
  };
  const bool other = compiled_.reads_other_states;
  const Bindings bindings = other ? Bindings::MainStateOther : Bindings::MainState;
  dispatch(label, source(other ? "state_from_other" : "state_in_place"), bindings, bind_main(label, &group), grid, x, 1,
           state_part);
  compiled_.dispatches.back().layer = static_cast<int32_t>(layer);
}

// ---- embedding, norms
// -----------------------------------------------------------------------------------------------------------

void Compiler::add(const EmbedOp& op, size_t op_index) {
  const Tensor& table = plan_.tensor(op.table);
  const std::span<const WeightGroup> groups = model_.weights->groups(op_index);
  const WeightGroup& norms = groups[0];
  vector(op.norm_weight), vector(op.norm_bias);
  const SlotPlace& out = slot(static_cast<size_t>(op.out));
  const std::string type = lower(traits(table.type).name);
  struct Piece {
    PlacedRows rows;
    Pipelines::Range range;
  };
  std::vector<Piece> pieces;
  for (const WeightGroup& group : groups.subspan(1))
    pieces.push_back({group.rows.front(), {model_.weights->buffer(group), group.offset, group.bytes}});
  if (model_.weights->table_on_host()) {
    const size_t row_bytes = packed_row_bytes(table.type, table.ne0);
    compiled_.table_rows = device_.create_buffer("embedding rows", shape_.rows * row_bytes,
                                                 WGPUBufferUsage_Storage | WGPUBufferUsage_CopyDst);
    pieces.push_back({{op.table, 0, shape_.rows, 0, static_cast<uint32_t>(row_bytes / 16)}, {compiled_.table_rows.get()}});
  }
  tune(message("embed ", traits(table.type).name));
  for (const auto& [rows, range] : pieces) {
    ShaderText text = begin_norm(table.ne0, op.epsilon, norm_workgroup(1), 8);
    text.constant("kFirstToken", rows.first_row).constant("kTokens", rows.rows);
    text.constant("kTableStride", rows.row_vec4s).constant("kUnits", table.ne0 / 32);
    text.constant("kNormWeight", placed(norms, op.norm_weight).at).constant("kNormBias", placed(norms, op.norm_bias).at);
    text.constant("kOut", out.values).constant("kOutStride", out.values_stride());
    if (is_float(table.type)) {
      text.file("float_weights").text(instantiate("table_float", {{"TYPE", type}}));
    } else {
      text.file("decode_" + type).text(instantiate("table_quant", {{"TYPE", type}}));
    }
    text.file("embed");
    const std::string label = message("embed ", traits(table.type).name);
    cost_ = embed_cost(plan_, op);
    const Pipelines::Range ranges[] = {range,
                                       {compiled_.activations.buffer().get()},
                                       {compiled_.params.get()},
                                       {compiled_.tokens.get()},
                                       {model_.weights->buffer(norms), norms.offset, norms.bytes}};
    dispatch(label, text.str(), Bindings::Embed, model_.pipelines->bind(label, Bindings::Embed, ranges), Grid::Rows, 1);
  }
  if (out.has_codes) add_quantize(static_cast<size_t>(op.out), Grid::RowsY);
}

ShaderText Compiler::shift_mix_text(const ShiftMixOp& op, size_t op_index, std::span<const bool> wanted,
                                    uint32_t& chunk) const {
  const WeightGroup& group = model_.weights->groups(op_index)[0];
  const SlotPlace& x = slot(static_cast<size_t>(op.x));
  vector(op.norm_weight), vector(op.norm_bias), vector(op.lerp);
  const PlacedRows& lerp = placed(group, op.lerp);
  // Mix(lerp, values, codes, heads, has_values, has_codes)
  std::string cases;
  uint32_t mixes = 0;
  for (uint32_t z = 0; z < op.out.size(); ++z) {
    if (!wanted.empty() && !wanted[z]) continue;
    const SlotPlace& out = slot(static_cast<size_t>(op.out[z]));
    cases += message("  if (z == ", mixes++, "u) { return Mix(", lerp.at + z * lerp.row_vec4s, "u, ", out.values, "u, ",
                     out.codes, "u, ", out.heads, "u, ", out.has_values ? "true" : "false", ", ",
                     out.has_codes ? "true" : "false", "); }\n");
  }
  const std::string mix_of =
      message("fn mix_of(z: u32) -> Mix {\n", cases, "  return Mix(", lerp.at, "u, 0u, 0u, 0u, false, false);\n}");
  chunk = norm_chunk(mixes);
  ShaderText text = begin_norm(x.width, op.epsilon, norm_workgroup(mixes * chunk), 8);
  text.constant("kX", x.values).constant("kXStride", x.values_stride()).constant("kMixes", mixes).constant("kChunk", chunk);
  text.constant("kNormWeight", placed(group, op.norm_weight).at).constant("kNormBias", placed(group, op.norm_bias).at);
  text.text(instantiate("shift_mix", {{"MIXES", mix_of}}));
  return text;
}

void Compiler::add(const ShiftMixOp& op, size_t op_index) {
  if (!one_token()) return add_shift_mix_many(op, op_index);
  uint32_t chunk = 0;
  tune(message("shift_mix ", op.out.size()));
  ShaderText text = shift_mix_text(op, op_index, {}, chunk);
  text.file("shift_mix_run");
  cost_ = shift_mix_cost(plan_, op);
  const uint32_t quads = ceil_div(slot(static_cast<size_t>(op.x)).width, 4);
  dispatch_state(message("shift_mix ", op.out.size()), text, "vec4<f32>", model_.weights->groups(op_index)[0],
                 Grid::SequenceRows, ceil_div(quads, chunk), op.layer, op.state_part);
}

void Compiler::add(const HeadOp& op, size_t op_index) {
  if (shape_.readout == Readout::None) return;
  const std::span<const WeightGroup> groups = model_.weights->groups(op_index);
  vector(op.norm_weight), vector(op.norm_bias);
  const SlotPlace& x = slot(static_cast<size_t>(op.x));
  const SlotPlace& hidden = slot(compiled_.hidden_slot);
  tune("norm");
  const uint32_t chunk = norm_chunk(1);
  ShaderText text = begin_norm(x.width, op.epsilon, norm_workgroup(chunk), 8);
  text.constant("kX", x.values)
      .constant("kXStride", x.values_stride())
      .constant("kAllRows", is_head_row_count())
      .constant("kRows", shape_.rows)
      .constant("kOneRow", one_token());
  text.constant("kChunk", chunk)
      .constant("kNormWeight", placed(groups[0], op.norm_weight).at)
      .constant("kNormBias", placed(groups[0], op.norm_bias).at);
  text.constant("kHasValues", hidden.has_values).constant("kHasCodes", hidden.has_codes);
  text.constant("kValues", hidden.values).constant("kCodes", hidden.codes).constant("kHeads", hidden.heads).file("norm");
  cost_ = norm_cost(x.width);
  dispatch("norm", text.str(), Bindings::Main, bind_main("norm", &groups[0]), Grid::HeadRows,
           ceil_div(ceil_div(x.width, 4), chunk));
  if (shape_.readout == Readout::Hidden) return;
  const LinearMatrix matrix{op.weight, compiled_.hidden_slot, compiled_.logits_slot, Activation::None, false};
  for (const WeightGroup& piece : groups.subspan(1)) {
    const size_t begin = compiled_.dispatches.size();
    add_linear("head", std::span(&matrix, 1), std::span(&piece, 1), true);
    mark_unit(begin, piece.unit);
  }
}

void Compiler::add_quantize(size_t id, Grid grid) {
  const SlotPlace& place = slot(id);
  constexpr uint32_t kWorkgroup = 128;
  ShaderText text = begin(kWorkgroup, 8);
  text.constant("kWidth", place.width).constant("kX", place.values).constant("kXStride", place.values_stride());
  text.constant("kCodes", place.codes).constant("kHeads", place.heads);
  text.file("activations").file("quantize_quad").file("quantize");
  cost_.row_bytes = 5 * uint64_t{place.width};
  dispatch("quantize", text.str(), Bindings::Main, bind_main("quantize", nullptr), grid,
           ceil_div(place.width / 4, kWorkgroup));
}

}  // namespace rwkvnative::webgpu
