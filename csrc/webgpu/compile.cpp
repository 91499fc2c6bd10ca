// Op after op to dispatches, and what the other compile_*.cpp share: the beginning of a kernel's text, its bindings, its dispatch.
#include <algorithm>
#include <bit>
#include <cctype>
#include <utility>

#include "core/cost.h"
#include "core/error.h"
#include "webgpu/compile.h"
#include "webgpu/experiment.h"

namespace rwkvnative::webgpu {

std::string lower(std::string_view name) {
  std::string out(name);
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

Compiled compile(const LoadedParts& model, const Shape& shape) { return Compiler(model, shape).run(); }

ProgramSize program_size(const LoadedParts& model, const Shape& shape) { return Compiler(model, shape).size(); }

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
  products_ = product_kinds();
  choose_tiles();
  plan_slots();
  lay_out();
  allocate();
  compiled_.covers_state = covers_state();
  compiled_.reads_other_states = one_token() && compiled_.covers_state;
  for (size_t i = 0; i < plan_.ops.size(); ++i) {
    layer_ = layer_of(plan_.ops[i], layer_);
    next_ = i + 1 < plan_.ops.size() ? &plan_.ops[i + 1] : nullptr;
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
    return whole.text(instantiate(state, {{"TYPE", element}})).str();
  };
  const bool other = compiled_.reads_other_states;
  const Bindings bindings = other ? Bindings::MainStateOther : Bindings::MainState;
  dispatch(label, source(other ? "state_from_other" : "state_in_place"), bindings, bind_main(label, &group), grid, x, 1,
           state_part);
  compiled_.dispatches.back().layer = static_cast<int32_t>(layer);
}

}  // namespace rwkvnative::webgpu
