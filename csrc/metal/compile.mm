#include "metal/compile.h"

#include <algorithm>
#include <bit>
#include <cctype>

#include "core/cost.h"
#include "core/error.h"

namespace rwkvnative::metal {
namespace {

constexpr uint64_t kArgumentAlignment = 256;    // of an offset into constant memory: 4 on Apple GPUs, 256 on every Mac
constexpr uint32_t kMaxDeviceCandidates = 512;  // half a slice of choice.metal: every pass at least halves the list

uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

Compiled compile(const LoadedParts& model, const Shape& shape) { return Compiler(model, shape).run(); }

std::string kernel_file(DType type) {
  std::string name = traits(type).name;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

Compiler::Compiler(const LoadedParts& model, const Shape& shape)
    : model_(model), device_(*model.device), tuning_(device_.options().tuning), plan_(*model.plan), shape_(shape) {
  if (shape.rows == 0 || shape.sequences == 0 || shape.sequences > shape.rows) {
    throw InputError(message("[metal] compile: ", shape.rows, " rows for ", shape.sequences,
                             " sequences; expected at least one each, and a row for each sequence"));
  }
}

Compiled Compiler::run() {
  allocate();
  for (size_t i = 0; i < plan_.ops.size(); ++i) {
    layer_ = layer_of(plan_.ops[i], layer_);
    if (const auto* mix = std::get_if<ShiftMixOp>(&plan_.ops[i])) choose_halves(*mix, i);
    if (const size_t ops = add_fused(i); ops != 0) {
      i += ops - 1;
    } else {
      std::visit([&](const auto& op) { add(op); }, plan_.ops[i]);
    }
  }
  add_choice();
  make_runs();
  model_.pipelines->save();
  compiled_.arguments = device_.create_buffer("arguments", arguments_.size());
  std::memcpy(compiled_.arguments.contents(), arguments_.data(), arguments_.size());
  for (Dispatch& dispatch : compiled_.dispatches) {
    for (Binding& binding : dispatch.bindings) {
      if (binding.index == BUFFER_ARGUMENTS) binding.buffer = compiled_.arguments.get();
    }
  }
  return std::move(compiled_);
}

// macOS ends a command buffer that keeps the GPU for seconds. A streamed unit is brought for one, and is a layer at most.
void Compiler::make_runs() {
  std::vector<Run>& runs = compiled_.runs;
  double operations = 0;  // of the last run
  for (size_t i = 0; i < compiled_.dispatches.size(); ++i) {
    const Dispatch& dispatch = compiled_.dispatches[i];
    const double more = 1.0 * dispatch.cost.row_operations * (is_of_head(dispatch.grid) ? head_rows() : shape_.rows);
    const bool too_long = dispatch.unit == kNoUnit && operations + more > 1e6 * tuning_.megaoperations;
    if (runs.empty() || runs.back().unit != dispatch.unit || too_long) {
      runs.push_back({.unit = dispatch.unit, .begin = i, .end = i});
      operations = 0;
    }
    runs.back().end = i + 1;
    operations += more;
  }
  // The last ones are followed by the first of the next submit.
  uint32_t next = kNoUnit;
  for (int round = 0; round < 2; ++round) {
    for (size_t i = runs.size(); i-- > 0;) {
      runs[i].next = next != runs[i].unit ? next : kNoUnit;
      if (runs[i].unit != kNoUnit) next = runs[i].unit;
    }
  }
}

size_t Compiler::add_slot(uint32_t width, uint32_t rows) {
  const SlotPlace* last = compiled_.slots.empty() ? nullptr : &compiled_.slots.back();
  const uint64_t offset = last == nullptr ? 0 : last->offset + uint64_t{last->rows} * last->stride;
  compiled_.slots.push_back({.width = width, .stride = ceil_div(width, 32) * 32, .rows = rows, .offset = offset});
  return compiled_.slots.size() - 1;
}

void Compiler::allocate() {
  size_t state_parts = 0;
  bool has_head = false, has_wkv7 = false;
  for (const Op& op : plan_.ops) {
    has_head = has_head || std::holds_alternative<HeadOp>(op);
    has_wkv7 = has_wkv7 || std::holds_alternative<Wkv7Op>(op);
    state_parts += std::holds_alternative<ShiftMixOp>(op) || std::holds_alternative<Wkv7Op>(op) ? 1 : 0;
  }
  if (!has_head && shape_.readout != Readout::None)
    throw InputError("[metal] compile: the plan has no head to read from");
  // A submit reads one state and writes another, so its ops must write all of it.
  if (state_parts != plan_.n_layer * plan_.state_parts.size()) {
    throw InputError(message("[metal] compile: expected an op for each of ", plan_.n_layer * plan_.state_parts.size(),
                             " parts of the state, got ", state_parts));
  }

  compiled_.candidates_on_host =
      shape_.readout == Readout::Candidates && std::min(shape_.candidates, plan_.n_vocab) > kMaxDeviceCandidates;
  for (const Slot& plan_slot : plan_.slots) add_slot(plan_slot.width, shape_.rows);
  hidden_slot_ = add_slot(plan_.n_embd, head_rows());
  logits_slot_ = add_slot(wants_logits() && !logits_are_results() ? plan_.n_vocab : 1, head_rows());
  for (int z = 0; z < 4 && has_wkv7; ++z) {
    const size_t id = add_slot(plan_.n_embd, shape_.rows);
    if (z == 0) lora_slots_ = id;
  }
  const SlotPlace& last = compiled_.slots.back();
  const uint64_t floats = last.offset + uint64_t{last.rows} * last.stride;
  if (floats > UINT32_MAX) throw InputError(message("[metal] compile: too many activations (", floats, " values)"));
  compiled_.activations = device_.create_buffer("activations", floats * sizeof(float));
  compiled_.tokens = device_.create_buffer("tokens", sizeof(uint32_t) * uint64_t{shape_.sequences});

  switch (shape_.readout) {
    case Readout::None:
      break;
    case Readout::Draw:
      throw InputError("[metal] compile: no tokens are drawn here: LoadedModel::most_drawn() is 0");
    case Readout::LastLogits:
    case Readout::AllLogits:
      compiled_.result_bytes = uint64_t{head_rows()} * plan_.n_vocab * sizeof(float);
      break;
    case Readout::Hidden:
      compiled_.result_bytes = uint64_t{head_rows()} * plan_.n_embd * sizeof(float);
      break;
    case Readout::Candidates:
      compiled_.result_bytes = compiled_.candidates_on_host
                                   ? uint64_t{head_rows()} * plan_.n_vocab * sizeof(float)
                                   : uint64_t{shape_.sequences} * (1 + shape_.candidates) * 2 * sizeof(uint32_t);
      break;
    case Readout::Argmax:
      compiled_.result_bytes = uint64_t{shape_.sequences} * sizeof(uint32_t);
      break;
  }
}

// ---- dispatches

uint64_t Compiler::add_arguments(const void* bytes, size_t size) {
  const uint64_t at = round_up(arguments_.size(), kArgumentAlignment);
  arguments_.resize(at + size);
  std::memcpy(arguments_.data() + at, bytes, size);
  return at;
}

Dispatch& Compiler::add_dispatch(const std::string& label, const std::string& file, const std::string& function,
                                 const Constants& constants, uint32_t threads, std::vector<Binding> bindings) {
  compiled_.dispatches.push_back({.label = label,
                                  .kernel = &model_.pipelines->get(file, function, constants, threads),
                                  .bindings = std::move(bindings),
                                  .threads = threads,
                                  .after_all = std::exchange(stage_begins_, false),
                                  .layer = layer_,
                                  .unit = std::exchange(unit_, kNoUnit),
                                  .cost = std::exchange(cost_, {})});
  return compiled_.dispatches.back();
}

Binding Compiler::weights(uint32_t index, const PlacedRows& placed, uint64_t offset) {
  if (placed.unit != kNoUnit) unit_ = placed.unit;
  return {index, placed.buffer != nil ? Source::Fixed : Source::Window, placed.buffer, offset, placed.window};
}

Binding Compiler::vector(uint32_t index, TensorId id, uint32_t rows) {
  const Tensor& tensor = plan_.tensor(id);
  if (tensor.type != DType::F32)
    throw InputError(message("[metal] ", tensor.name, ": expected F32, got ", traits(tensor.type).name));
  if (tensor.ne0 != plan_.n_embd || tensor.ne1 < rows) {
    throw InputError(message("[metal] ", tensor.name, ": expected ", rows, " rows of ", plan_.n_embd, " values, got ",
                             tensor.ne1, " of ", tensor.ne0));
  }
  const PlacedRows& placed = (*model_.weights)[id];
  return weights(index, placed, placed.offset);
}

// ---- embedding, norms

Constants Compiler::norm_constants(uint32_t width, float epsilon) const {
  if (width % 4 != 0) throw InputError(message("[metal] norm: expected a multiple of 4 values, got ", width));
  return Constants().set(CONSTANT_WIDTH, width).set(CONSTANT_EPSILON, std::bit_cast<uint32_t>(epsilon));
}

void Compiler::add(const EmbedOp& op) {
  const Tensor& table = plan_.tensor(op.table);
  const bool gathered = model_.weights->table_on_host();  // then row i of it is row i of the submit
  const PlacedRows placed = gathered ? PlacedRows{.row_bytes = copied_row_bytes(table)} : (*model_.weights)[op.table];
  if (gathered) compiled_.table_row_bytes = placed.row_bytes;
  const SlotPlace& out = slot(op.out);
  const EmbedArguments arguments{placed.offset, placed.row_bytes, offset(out), out.stride};
  const Constants constants = norm_constants(table.ne0, op.epsilon).set(CONSTANT_ITEMS, row_items(table));
  begin_stage();
  cost_ = embed_cost(plan_, op);
  Dispatch& d = dispatch(message("embed ", traits(table.type).name), kernel_file(table.type), "embed", constants,
                         32 * tuning_.norm_simdgroups, arguments,
                         {of_submit(BUFFER_ROWS, Source::Rows),
                          act(BUFFER_OUT),
                          gathered ? of_submit(BUFFER_WEIGHTS, Source::TableRows) : weights(BUFFER_WEIGHTS, placed),
                          {BUFFER_TOKENS, Source::Fixed, compiled_.tokens.get(), 0},
                          vector(BUFFER_VECTOR_0, op.norm_weight),
                          vector(BUFFER_VECTOR_1, op.norm_bias)});
  d.grid = Grid::Rows;
}

void Compiler::add(const ShiftMixOp& op) {
  begin_stage();
  add_shift_mix(op, {});
}

void Compiler::choose_halves(const ShiftMixOp& op, size_t op_index) {
  const bool matmul = device_.options().matmul && shape_.rows >= tuning_.matmul_rows;  // reads floats
  if (tuning_.half == 0 || !model_.half_products || matmul) return;
  half_scales_.resize(compiled_.slots.size());
  const std::vector<float>& scales = model_.mix_scales.at(op_index);
  for (size_t z = 0; z < op.out.size(); ++z) {
    half_scales_.at(static_cast<size_t>(op.out[z])) = scales.empty() ? 0.0f : scales.at(z);
  }
}

// wanted: which of the mixes to make; all if it is empty.
void Compiler::add_shift_mix(const ShiftMixOp& op, std::span<const bool> wanted) {
  const SlotPlace& x = slot(op.x);
  if (op.out.size() > MAX_MIXES)
    throw InputError(message("[metal] shift_mix: expected at most ", MAX_MIXES, " mixes, got ", op.out.size()));
  ShiftMixArguments arguments{
      .x = offset(x), .stride = x.stride, .state = model_.states->layout().place(op.layer, op.state_part), .mixes = {}};
  uint32_t mixes = 0;
  for (uint32_t z = 0; z < op.out.size(); ++z) {
    if (!wanted.empty() && !wanted[z]) continue;
    const SlotPlace& out = slot(op.out[z]);
    if (out.width != x.width)
      throw InputError(message("[metal] shift_mix: slots of ", x.width, " and ", out.width, " values"));
    arguments.mixes[mixes++] = {z * x.width, offset(out), half_scale(static_cast<size_t>(op.out[z]))};
  }
  const uint32_t simdgroups = std::max(tuning_.norm_simdgroups, ceil_div(mixes * tuning_.chunk, 32));
  const Constants constants =
      norm_constants(x.width, op.epsilon)
          .set(CONSTANT_CHUNK, tuning_.chunk)
          .set(CONSTANT_MIXES, mixes)
          .set(CONSTANT_HALF, arguments.mixes[0].scale != 0.0f);
  cost_ = shift_mix_cost(plan_, op);
  Dispatch& d = dispatch(message("shift_mix ", mixes), "mix", "shift_mix", constants, 32 * simdgroups, arguments,
                         {of_submit(BUFFER_SEQUENCES, Source::Sequences), of_submit(BUFFER_ROWS, Source::Rows),
                          of_submit(BUFFER_RANGE, Source::Range), act(BUFFER_IN), act(BUFFER_OUT),
                          of_submit(BUFFER_STATE_IN, Source::StateIn), of_submit(BUFFER_STATE_OUT, Source::StateOut),
                          vector(BUFFER_VECTOR_0, op.norm_weight), vector(BUFFER_VECTOR_1, op.norm_bias),
                          vector(BUFFER_VECTOR_2, op.lerp, static_cast<uint32_t>(op.out.size()))});
  d.grid = Grid::RangeRows;
  d.x = ceil_div(x.width / 4, tuning_.chunk);
}

void Compiler::add(const HeadOp& op) {
  if (shape_.readout == Readout::None) return;
  const SlotPlace& x = slot(op.x);
  const SlotPlace& hidden = slot(hidden_slot_);
  const bool to_results = shape_.readout == Readout::Hidden;
  NormArguments arguments{
      .x = offset(x), .x_stride = x.stride, .out = offset(hidden), .out_stride = hidden.stride, .all_rows = all_rows()};
  if (to_results) arguments.out = 0, arguments.out_stride = hidden.width;
  begin_stage();
  cost_ = norm_cost(x.width);
  Dispatch& d =
      dispatch("norm", "mix", "norm", norm_constants(x.width, op.epsilon), 32 * tuning_.norm_simdgroups, arguments,
               {of_submit(BUFFER_SEQUENCES, Source::Sequences), act(BUFFER_IN),
                to_results ? of_submit(BUFFER_OUT, Source::Results) : act(BUFFER_OUT),
                vector(BUFFER_VECTOR_0, op.norm_weight), vector(BUFFER_VECTOR_1, op.norm_bias)});
  d.grid = Grid::HeadRows;
  if (to_results) return;
  const Matrix matrix{.weight = op.weight, .in = hidden_slot_, .out = logits_slot_};
  begin_stage();
  add_linear("head", {&matrix, 1}, true);
}

// ---- time mix

// lora_z = z2 . hidden_z for z = w, a, v, g.
std::vector<Compiler::Matrix> Compiler::second_loras(const Wkv7Op& op) const {
  struct Lora {
    TensorId weight;
    SlotId hidden;
  };
  std::vector<Matrix> matrices;
  size_t z = 0;
  for (const Lora& lora :
       {Lora{op.w2, op.w_hidden}, Lora{op.a2, op.a_hidden}, Lora{op.v2, op.v_hidden}, Lora{op.g2, op.g_hidden}}) {
    const size_t out = lora_slots_ + z++;
    if (lora.hidden == kNone) continue;  // the first layer has no value residual
    matrices.push_back({.weight = lora.weight, .in = static_cast<size_t>(lora.hidden), .out = out});
  }
  return matrices;
}

void Compiler::add(const Wkv7Op& op) {
  begin_stage();
  add_linear("lora", second_loras(op), false);
  add_wkv7(op);
}

void Compiler::add_wkv7(const Wkv7Op& op, bool with_loras) {
  const uint32_t n = plan_.head_size;
  if (n % 16 != 0 || n > 256)
    throw InputError(message("[metal] wkv7: expected a head size that is a multiple of 16 up to 256, got ", n));
  const uint32_t keys = n <= 128 ? 16 : n / 4;
  for (SlotId id : {op.r, op.k, op.v, op.v_first, op.out}) {
    if (slot(id).width != plan_.n_embd) {
      throw InputError(message("[metal] wkv7: slot ", plan_.slot(id).name, ": expected width ", plan_.n_embd, ", got ",
                               slot(id).width));
    }
  }
  const bool first_layer = op.v_hidden == kNone;
  const auto at = [&](SlotId id) { return offset(slot(id)); };
  const auto lora = [&](size_t z) { return offset(slot(lora_slots_ + z)); };
  Wkv7Arguments arguments{.loras = {},
                          .stride = slot(op.r).stride,
                          .r = at(op.r),
                          .k = at(op.k),
                          .v = at(op.v),
                          .lora_w = lora(0),
                          .lora_a = lora(1),
                          .lora_v = lora(2),
                          .lora_g = lora(3),
                          .v_first = at(op.v_first),
                          .out = at(op.out),
                          .epsilon = op.norm_epsilon,
                          .pad = 0,
                          .state = model_.states->layout().place(op.layer, op.state_part)};
  std::string function = keys == 16 ? "wkv7_16" : "wkv7_64";
  Binding lora_weights = act(BUFFER_WEIGHTS);  // read only by the kernels that multiply LoRAs
  for (const Matrix& matrix : with_loras ? second_loras(op) : std::vector<Matrix>()) {
    const Tensor& weight = plan_.tensor(matrix.weight);
    const PlacedRows& placed = (*model_.weights)[matrix.weight];
    const Rows rows{matrix, placed};
    const MatrixPart checked = part(rows, false);
    arguments.loras[matrix.out - lora_slots_] = {checked.weights, placed.row_bytes, checked.in, row_items(weight)};
    lora_weights = weights(BUFFER_WEIGHTS, placed);
    cost_ = cost_ + matrix_cost(weight, weight.ne1, false);
  }
  if (with_loras) function += "_" + kernel_file(plan_.tensor(op.w2).type);
  const Constants constants =
      Constants().set(CONSTANT_HEAD_SIZE, n).set(CONSTANT_KEYS, keys).set(CONSTANT_FIRST_LAYER, first_layer);
  begin_stage();
  cost_ = cost_ + wkv7_cost(plan_);
  Dispatch& d =
      dispatch(message(with_loras ? "wkv7 lora" : "wkv7", first_layer ? " first layer" : ""), "wkv7", function, constants,
               ceil_div(n * (n / keys), 32) * 32, arguments,
               {of_submit(BUFFER_SEQUENCES, Source::Sequences), of_submit(BUFFER_RANGE, Source::Range), act(BUFFER_OUT),
                lora_weights,
                of_submit(BUFFER_STATE_IN, Source::StateIn), of_submit(BUFFER_STATE_OUT, Source::StateOut),
                vector(BUFFER_VECTOR_0, op.w0), vector(BUFFER_VECTOR_1, op.a0),
                vector(BUFFER_VECTOR_2, first_layer ? op.a0 : op.v0),  // the first layer reads no v0
                vector(BUFFER_VECTOR_3, op.k_k), vector(BUFFER_VECTOR_4, op.k_a), vector(BUFFER_VECTOR_5, op.r_k),
                vector(BUFFER_VECTOR_6, op.norm_weight), vector(BUFFER_VECTOR_7, op.norm_bias)});
  d.grid = Grid::RangeSequences;
  d.x = plan_.n_head;
}

}  // namespace rwkvnative::metal
