// Linear ops and the head for many rows of activations: tiles of outputs, multiplied by subgroup matrices (float16, float32
// sums) where the device has them, or in float32 by registers.
#include <algorithm>
#include <bit>

#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kFloatTile = 64;      // of kernels/matmat_f32.wgsl
constexpr uint32_t kFloatThreads = 256;
constexpr uint32_t kReduceThreads = 256;  // of kernels/reduce.wgsl
constexpr uint32_t kMaxSplits = 12;
constexpr uint32_t kMinSteps = 4;  // of a split
constexpr uint64_t kMostShared = 64 << 20;  // bytes of the sums of tiles that workgroups share
constexpr uint32_t kDirectRows = 512;       // from so many rows on, a workgroup finishes what it need not share

// Where the sums of a matrix go: outputs of a split, whole tiles of them.
uint32_t sums_width(const Tensor& weight, uint32_t outs) { return ceil_div(weight.ne1, outs) * outs; }

}  // namespace

// How a program multiplies `rows` rows of activations with a matrix. Constants of the whole model, not of a kind of dispatch:
// what the inputs are packed as depends on it.
MatMat Compiler::matmat(uint32_t rows) const {
  const Tuning& tuning = tuned_.all;
  if (tuning.matmat == 1 || rows < tuning.matmat_rows) return MatMat::None;
  if (tuning.matmat == 0) {
    if (device_.info().kind == DeviceKind::Software) return MatMat::None;  // its compiler takes longer than this saves
    if (model_.int8 && device_.matrix()) return MatMat::Matrix;
    return rows < kFloatTile / 2 ? MatMat::None : MatMat::Float;
  }
  const auto form = static_cast<MatMat>(tuning.matmat - 1);
  if ((form == MatMat::Matrix && !device_.matrix()) || (form == MatMat::Plain && !device_.half())) {
    throw InputError(message("[webgpu] RWKVNATIVE_WEBGPU_TUNING: matmat=", tuning.matmat, ": ", device_.info().name, " has no ",
                             form == MatMat::Plain ? "shader-f16" : "subgroup matrices of f16 with f32 sums"));
  }
  return form;
}

// Packs the inputs of `matrices` as float16: kernels/pack_halves.wgsl.
void Compiler::add_pack(std::span<const LinearMatrix> matrices, bool of_head) {
  std::vector<size_t> inputs;
  for (const LinearMatrix& matrix : matrices) {
    const bool packed = matrix.in < uses_.size() && uses_[matrix.in].halves_by_producer;
    if (!packed && std::find(inputs.begin(), inputs.end(), matrix.in) == inputs.end()) inputs.push_back(matrix.in);
  }
  if (inputs.empty()) return;
  std::vector<uint32_t> table;
  for (size_t input : inputs) {
    const SlotPlace& in = slot(input);
    table.insert(table.end(), {in.values, in.values_stride(), in.halves, in.halves_stride(), in.scales, 0, 0, 0});
  }
  ShaderText text;
  text.constant("kWorkgroup", 128u).file("activations");
  include_half_tiles(text);
  text.constant("kHalvesBinding", 5u).file("halves_out").file("pack_halves");
  for (size_t input : inputs) cost_.row_bytes += uint64_t{slot(input).width} * (4 + 2);
  dispatch("pack", text.str(), Bindings::Parts, bind_parts("pack", Bindings::Parts, nullptr, table),
           of_head ? Grid::HeadRows : Grid::RowsBy, static_cast<uint32_t>(inputs.size()));
}

void Compiler::include_half_tiles(ShaderText& text) const {
  const MatrixShape shape = matrix_shape_of(device_);
  text.constant("kHalfTileRows", shape.m).constant("kHalfTileOctets", shape.k / 8).file("half_tiles");
}

void Compiler::include_halves(ShaderText& text, uint32_t binding, uint32_t rows, uint32_t workgroup) const {
  include_half_tiles(text);
  text.constant("kLargestLanes", use_subgroups(workgroup, 32) ? 32u : 8u);
  text.constant("kHalvesBinding", binding).constant("kHalfRows", rows).file("halves_out").file("halves");
}

// bind_main() and a table for the kernel.
BindGroupHandle Compiler::bind_parts(const std::string& label, Bindings bindings, const WeightGroup* group,
                                     std::span<const uint32_t> table) {
  const Pipelines::Range weights = group == nullptr
                                       ? Pipelines::Range{compiled_.dummy.get(), 0, 16}
                                       : Pipelines::Range{model_.weights->buffer(*group), group->offset, group->bytes};
  return bind_parts(label, bindings, weights, table);
}

BindGroupHandle Compiler::bind_parts(const std::string& label, Bindings bindings, Pipelines::Range weights,
                                     std::span<const uint32_t> table) {
  Buffer buffer = device_.create_buffer(label, table.size_bytes(), WGPUBufferUsage_Storage | WGPUBufferUsage_CopyDst);
  device_.write(buffer.get(), 0, std::as_bytes(table));
  const Pipelines::Range ranges[] = {
      weights, {compiled_.activations.buffer().get()}, {compiled_.params.get()}, {buffer.get()},
      {compiled_.sums.get()}, {compiled_.activations.halves().get()}};
  compiled_.tables.push_back(std::move(buffer));
  return model_.pipelines->bind(label, bindings, ranges);
}

Compiler::Tiling Compiler::tiling(uint32_t rows) const {
  Tiling tiling{.form = matmat(rows), .tile = {kFloatTile, kFloatTile, 1, 1}, .threads = kFloatThreads};
  if (tiling.form == MatMat::Matrix || tiling.form == MatMat::Plain) {
    const uint32_t most = compiled_.kept_tiles == nullptr ? rows : std::min(rows, kTiledRows);
    tiling.tile = choose_tile(device_, most, tuned_.all.matmat_tile, tuned_.all.matmat_outs, max_threads_);
    tiling.threads = tiling.form == MatMat::Matrix ? tiling.tile.down * tiling.tile.along * device_.matrix()->lanes
                                                   : std::min(kPlainThreads, tiling.tile.outs * 2);
  }
  return tiling;
}

// How many workgroups share each tile of an op's matrices.
uint32_t Compiler::splits(std::span<const LinearMatrix> matrices, uint32_t rows) const {
  // A chunk that a memory budget made shorter is split like the usual one: the same sums, to the bit.
  if (shape_.readout == Readout::AllLogits && rows == model_.logits_rows) {
    rows = model_.usual_logits_rows;
  } else if (rows == model_.prefill_rows) {
    rows = model_.usual_rows;
  }
  const Tiling tiling = this->tiling(rows);
  const uint32_t row_tiles = ceil_div(rows, tiling.tile.rows);
  uint64_t tiles = 0, width = 0;
  uint32_t steps = 0;
  for (const LinearMatrix& matrix : matrices) {
    const Tensor& weight = plan_.tensor(matrix.weight);
    tiles += uint64_t{ceil_div(weight.ne1, tiling.tile.outs)} * row_tiles;
    width += sums_width(weight, tiling.tile.outs);
    steps = std::max(steps, ceil_div(weight.ne0, tiling.step()));
  }
  const uint64_t room = kMostShared / (4 * width * row_tiles * tiling.tile.rows);
  const uint32_t most = std::min(steps / kMinSteps, static_cast<uint32_t>(std::min<uint64_t>(room, kMaxSplits)));
  return choose_splits(tiles, steps, std::max(1u, tuned_.all.matmat_threads / tiling.threads), most);
}

// Whether a dispatch of so many rows finishes what none of its workgroups share.
bool Compiler::may_finish(uint32_t rows) const {
  return (rows == model_.prefill_rows ? model_.usual_rows : rows) >= kDirectRows;
}

// What of each matrix's sums a dispatch of `rows` rows leaves to reduce.wgsl.
std::vector<Compiler::Unfinished> Compiler::unfinished(std::span<const LinearMatrix> matrices, uint32_t rows) const {
  const MatMatTile& tile = tiling(rows).tile;
  const uint32_t wanted = splits(matrices, rows), rows_alloc = ceil_div(rows, tile.rows) * tile.rows;
  std::vector<Unfinished> places;
  uint32_t free = 0;
  for (const LinearMatrix& matrix : matrices) {
    const Tensor& weight = plan_.tensor(matrix.weight);
    const uint32_t steps = ceil_div(weight.ne0, tiling(rows).step());
    const uint32_t count = std::clamp(wanted, 1u, std::max(1u, steps / kMinSteps));
    const uint32_t outs = compiled_.kept_tiles == nullptr ? tile.outs : tiled(tiling(rows)).tile.outs;
    Unfinished place{.splits = ceil_div(steps, ceil_div(steps, count)), .width = sums_width(weight, outs), .rows = rows_alloc};
    const bool halves = matrix.out < uses_.size() && uses_[matrix.out].halves_by_producer;
    place.direct = place.splits == 1 && !halves && may_finish(rows);
    place.sums = free;
    if (!place.direct) free += place.splits * rows_alloc * place.width;
    places.push_back(place);
  }
  return places;
}

// Values of memory for sums: of the op that has most.
uint64_t Compiler::sums_values() const {
  if (matmat(shape_.rows) == MatMat::None) return 0;
  uint64_t most = 0;
  const auto consider = [&](std::span<const LinearMatrix> matrices) {
    uint64_t values = 0;
    for (const Unfinished& place : unfinished(matrices, shape_.rows)) {
      if (!place.direct) values += uint64_t{place.splits} * place.rows * place.width;
    }
    most = std::max(most, values);
  };
  for (const Op& op : plan_.ops) {
    if (const auto* linear = std::get_if<LinearOp>(&op)) consider(linear_matrices(*linear));
    if (const auto* wkv7 = std::get_if<Wkv7Op>(&op)) consider(second_loras(*wkv7));
  }
  return most;
}

// Whether sums may be left to whom they are for: to kernels of a crowd, which read each of them once. Prompts, where rows are read
// with their neighbours, and streamed models, whose kernels need the bindings to carry weights, have theirs added up before.
bool Compiler::readers_add_sums() const { return crowd() && takes_halves(matmat(shape_.rows)); }

bool Compiler::reader_adds_sums(const LinearMatrix& matrix) const {
  if (!readers_add_sums() || model_.weights->streams()) return false;
  if (matrix.out >= compiled_.lora_slots && matrix.out < compiled_.lora_slots + 4) return true;
  const auto* mix = next_ == nullptr ? nullptr : std::get_if<ShiftMixOp>(next_);
  return mix != nullptr && matrix.accumulate && static_cast<size_t>(mix->x) == matrix.out;
}

// Whether reduce.wgsl makes the op's r, k and v and notes their largest, so that wkv7_step.wgsl can bound what it gives out.
bool Compiler::bounds_out(const Wkv7Op& op, const Op* before) const {
  if (tuned_.all.wkv_halves == 0 || !readers_add_sums() || model_.weights == nullptr || model_.weights->streams()) return false;
  if (before == nullptr || !std::holds_alternative<LinearOp>(*before) || may_finish(shape_.rows)) return false;
  const std::vector<LinearPart>& parts = std::get<LinearOp>(*before).parts;
  const auto made = [&](SlotId id) {
    return std::any_of(parts.begin(), parts.end(), [&](const LinearPart& part) {
      return part.out == id && part.activation == Activation::None && !part.accumulate;
    });
  };
  return made(op.r) && made(op.k) && made(op.v);
}

// Where reduce.wgsl notes the largest values of an output, if it does: for the first layer's v, where all layers find it.
const SlotPlace* Compiler::noted_largest(const LinearMatrix& matrix) const {
  const auto* wkv7 = next_ == nullptr ? nullptr : std::get_if<Wkv7Op>(next_);
  if (wkv7 == nullptr || !uses_[static_cast<size_t>(wkv7->out)].bounded) return nullptr;
  const auto is = [&](SlotId id) { return matrix.out == static_cast<size_t>(id); };
  if (is(wkv7->r)) return &slot(compiled_.largest_slots);
  if (is(wkv7->k)) return &slot(compiled_.largest_slots + 1);
  if (is(wkv7->v)) return &slot(compiled_.largest_slots + (wkv7->v_hidden == kNone ? 3 : 2));
  return nullptr;
}

void Compiler::include_sums(ShaderText& text, const std::string& name, const KeptSums& sums) {
  const Unfinished& place = sums.place;
  text.constant(name, place.sums / 4).constant(name + "Stride", place.width / 4).constant(name + "Splits", place.splits);
  text.constant(name + "SplitStride", place.rows * place.width / 4).constant(name + "Scales", sums.scales).file("kept_sums");
}

// The switch cases that call `call` with each type; the last one is the default.
std::string by_kind(const std::vector<DType>& kinds, std::string_view begin, std::string_view end) {
  std::string cases;
  for (size_t i = 0; i < kinds.size(); ++i) {
    const std::string label = i + 1 == kinds.size() ? "default" : message("case ", i, "u");
    cases += message(label, ": { ", begin, lower(traits(kinds[i]).name), end, " }\n    ");
  }
  return cases;
}

// What the text of each product begins with. `once`: the table of parts comes to workgroup memory.
void Compiler::begin_product(ShaderText& text, const Tiling& tiling, size_t parts, bool once) const {
  const MatMatTile& tile = tiling.tile;
  text.constant("kTileRows", tile.rows).constant("kTileOuts", tile.outs).constant("kParts", static_cast<uint32_t>(parts));
  text.file("activations").file("activate").file("matmat");
  text.constant("kPartWords", kPartWords).file(once ? "matmat_part_once" : "matmat_part");
  if (tiling.form == MatMat::Float) return;
  text.enable("f16").constant("kThreads", tiling.threads).constant("kPutsMasked", tuned_.all.matmat_puts != 0);
  include_half_tiles(text);
  text.file("matmat_halves");
  if (tiling.form == MatMat::Plain) {
    text.file("matmat_plain");
    return;
  }
  const MatrixShape shape = matrix_shape_of(device_);
  text.enable("subgroups").enable("chromium_experimental_subgroup_matrix");
  // The subgroup's number is the same in all of a subgroup, which the analysis does not know.
  text.directive("diagnostic(off, chromium_experimental.subgroup_matrix_uniformity)");
  text.constant("kMatrixM", shape.m).constant("kMatrixN", shape.n).constant("kLanes", shape.lanes);
  text.constant("kSubgroupsDown", tile.down).constant("kSubgroupRows", tile.rows / tile.down);
  text.constant("kSubgroupOuts", tile.outs / tile.along).file("matmat_matrix");
}

// The kernel's text for tiles of matrices of these types.
std::string Compiler::matmat_text(const Tiling& tiling, const std::vector<DType>& kinds, size_t parts) const {
  ShaderText text;
  begin_product(text, tiling, parts, false);
  text.file("weights");
  for (DType type : kinds) text.file(is_float(type) ? "float_weights" : "decode_" + lower(traits(type).name));
  if (tiling.form == MatMat::Float) {
    std::string fetches;
    for (DType type : kinds) {
      if (!is_float(type)) text.file("dot_f32");
      fetches += instantiate(is_float(type) ? "matmat_f32_float" : "matmat_f32_quant", {{"TYPE", lower(traits(type).name)}});
    }
    return text
        .text(instantiate("matmat_f32",
                          {{"FETCHES", fetches}, {"FETCH", by_kind(kinds, "return fetch_", "(row, unit, half, part.units);")}}))
        .str();
  }
  text.constant("kFetched", 3u).file("matmat_fetched").file("matmat_slice").file("slice_put");
  MatrixProduct product{.sums = "var mine: Sums;",
                        .multiply = "multiply(part, row, step, &mine, thread);",
                        .finish = "finish(part, row, &mine, thread);"};
  const bool matrix = tiling.form == MatMat::Matrix;
  if (matrix) product = matrix_product(tiling.tile, matrix_shape_of(device_), tuned_.all.matmat_ahead != 0);
  for (DType type : kinds) {
    const std::string name = lower(traits(type).name);
    if (is_float(type)) {
      const bool whole = type == DType::F32;
      text.text(instantiate(whole ? "matmat_float_piece" : "matmat_half_piece", {{"TYPE", name}}));
      text.text(instantiate("matmat_float_weights", {{"TYPE", name}, {"PIECES", whole ? "8u" : "4u"}}));
    } else {
      text.file("matmat_codes").text(instantiate("matmat_quant", {{"TYPE", name}}));
      text.text(instantiate("matmat_weights", {{"TYPE", name}}));
    }
  }
  return text
      .text(instantiate("matmat_run", {{"LOAD", by_kind(kinds, "return load_weights_", "(part, step, thread);")},
                                       {"PUT", by_kind(kinds, "put_weights_", "(part, units, step, thread);")},
                                       {"START", product.left + product.right + product.sums},
                                       {"FIRST", product.first},
                                       {"MULTIPLY", product.multiply},
                                       {"FINISH", product.finish},
                                       {"SUBGROUP", matrix ? ", @builtin(subgroup_id) subgroup: u32" : ""}}))
      .str();
}

// What the products of a program have in common: one text for all of them. A GPU's multiprocessors keep some 128 KB of instructions;
// with a text for each op, a layer's are more, and every dispatch begins by waiting for its own.
Compiler::ProductKinds Compiler::product_kinds() const {
  ProductKinds all;
  const auto consider = [&](std::span<const LinearMatrix> matrices) {
    all.parts = std::max(all.parts, matrices.size());
    for (const LinearMatrix& matrix : matrices) {
      const DType type = plan_.tensor(matrix.weight).type;
      if (std::find(all.types.begin(), all.types.end(), type) == all.types.end()) all.types.push_back(type);
    }
  };
  for (const Op& op : plan_.ops) {
    if (const auto* linear = std::get_if<LinearOp>(&op)) consider(linear_matrices(*linear));
    if (const auto* wkv7 = std::get_if<Wkv7Op>(&op)) consider(second_loras(*wkv7));
  }
  return all;
}

void Compiler::add_matmat(const std::string& label, std::span<const LinearMatrix> matrices,
                          std::span<const WeightGroup> groups, bool of_head, uint32_t rows_at_once) {
  const Tiling own_tiling = this->tiling(rows_at_once);
  const bool halves = takes_halves(own_tiling.form);
  if (halves) add_pack(matrices, of_head);

  const ProductKinds all = of_head ? ProductKinds{} : products_;
  const std::vector<Unfinished> places =
      of_head ? std::vector<Unfinished>(matrices.size()) : unfinished(matrices, rows_at_once);
  const bool finishes = of_head || may_finish(rows_at_once);
  for (const WeightGroup& group : groups) {
    const TiledGroup tiled = tiled_group(matrices, group);
    const Tiling tiling = tiled.buffer == nullptr ? own_tiling : this->tiled(own_tiling);
    const MatMatTile& tile = tiling.tile;
    std::vector<DType> kinds = all.types;
    std::vector<uint32_t> parts;
    uint32_t workgroups = 0;
    size_t part_count = 0;
    for (const auto& [number, matrix, rows, weight, in, out, int8] : placed_matrices(group, matrices)) {
      count(rows, weight, false);
      const Unfinished& place = places[number];
      if (halves) cost_.row_bytes -= uint64_t{weight.ne0} * 2;           // inputs are float16
      cost_.row_bytes += uint64_t{place.splits - 1} * rows.rows * 4;  // sums of each split
      const auto kind = static_cast<uint32_t>(std::find(kinds.begin(), kinds.end(), weight.type) - kinds.begin());
      if (kind == kinds.size()) kinds.push_back(weight.type);
      const uint32_t steps = ceil_div(weight.ne0, tiling.step());
      uint32_t at = rows.at, stride = rows.row_vec4s;
      if (tiled.buffer != nullptr) {
        at = tiled.places.at(rows.tensor).at, stride = tiled.places.at(rows.tensor).octets;
        cost_.weight_bytes += uint64_t{rows.rows} * 16 * stride - uint64_t{rows.rows} * 16 * rows.row_vec4s;
      }
      const uint32_t begin = workgroups;
      workgroups += ceil_div(rows.rows, tile.outs) * place.splits;
      ++part_count;
      parts.insert(parts.end(), {workgroups, begin, kind, at, stride, row_units(weight), rows.rows,
                                 halves ? in.halves : in.values, halves ? in.halves_stride() : in.values_stride(), in.scales});
      const float scale = halves ? model_.half_scale(rows.tensor) : 1.0f;
      parts.insert(parts.end(), {(place.direct ? 4 * out.values : place.sums) + rows.first_row,
                                 place.direct ? out.padded : place.width,
                                 activation_number(matrix.activation, matrix.accumulate), of_head, !place.direct, place.splits,
                                 place.rows * place.width, ceil_div(steps, place.splits), steps, std::bit_cast<uint32_t>(scale),
                                 std::bit_cast<uint32_t>(1.0f / scale), 0, 0, 0});
    }
    if (part_count == 0) continue;
    // So that all share their kernel: parts that no workgroup is of.
    for (; part_count < all.parts || !std::has_single_bit(part_count); ++part_count) {
      parts.push_back(UINT32_MAX);
      parts.resize(parts.size() + kPartWords - 1);
    }
    if (halves) cost_.arithmetic = Arithmetic::F16;
    const Pipelines::Range weights = tiled.buffer == nullptr
                                         ? Pipelines::Range{model_.weights->buffer(group), group.offset, group.bytes}
                                         : Pipelines::Range{tiled.buffer};
    const std::string text = tiled.buffer == nullptr ? matmat_text(tiling, kinds, part_count)
                                                     : tiles_product_text(tiling, part_count, finishes);
    dispatch(label, text, Bindings::Product, bind_parts(label, Bindings::Product, weights, parts),
             of_head ? Grid::HeadTiles : Grid::RowTiles, workgroups, tile.rows);
  }
  add_reduce(label, matrices, places, halves);
}

uint32_t Compiler::reduce_threads() const { return std::min(kReduceThreads, max_threads_); }

// That make a row of so many outputs.
uint32_t Compiler::reduce_workgroups(uint32_t width) const { return ceil_div(ceil_div(width, 4), reduce_threads()); }

// Finishes what add_matmat() left, if anything.
void Compiler::add_reduce(const std::string& label, std::span<const LinearMatrix> matrices, std::span<const Unfinished> places,
                          bool halves) {
  std::vector<uint32_t> table;
  uint32_t workgroups = 0, parts = 0;
  for (size_t i = 0; i < matrices.size(); ++i) {
    const Unfinished& place = places[i];
    if (place.direct) continue;
    const Tensor& weight = plan_.tensor(matrices[i].weight);
    const SlotPlace& out = slot(matrices[i].out);
    const float scale = halves ? model_.half_scale(matrices[i].weight) : 1.0f;
    if (reader_adds_sums(matrices[i])) {
      kept_[matrices[i].out] = {place, slot(matrices[i].in).scales, 1.0f / scale};
      continue;
    }
    const bool as_halves = matrices[i].out < uses_.size() && uses_[matrices[i].out].halves_by_producer;
    const uint32_t begin = workgroups;
    workgroups += reduce_workgroups(weight.ne1);
    ++parts;
    const uint32_t out_bytes = (out.has_values ? (matrices[i].accumulate ? 8 : 4) : 0) + (as_halves ? 2 : 0);
    cost_.row_bytes += uint64_t{weight.ne1} * (4 * place.splits + out_bytes);
    cost_.row_operations += uint64_t{weight.ne1} * place.splits;
    const SlotPlace* largest = noted_largest(matrices[i]);
    const float length = halves ? magnitude(matrices[i].weight).row_length : 0.0f;
    table.insert(table.end(), {workgroups, begin, place.sums / 4, place.width / 4, place.rows * place.width / 4, place.splits,
                               weight.ne1, activation_number(matrices[i].activation, matrices[i].accumulate),
                               slot(matrices[i].in).scales, std::bit_cast<uint32_t>(1.0f / scale), out.has_values, out.values,
                               out.values_stride(), as_halves, out.halves, out.halves_stride(), out.scales,
                               slot(matrices[i].in).lengths, std::bit_cast<uint32_t>(length), largest != nullptr,
                               largest == nullptr ? 0 : 4 * largest->values, largest == nullptr ? 0 : largest->padded});
  }
  if (parts == 0) return;
  const uint32_t workgroup = reduce_threads();
  ShaderText text = begin(workgroup, 8);
  text.constant("kParts", parts).constant("kFromHalves", halves);
  text.file("activations").file("activate");
  include_halves(text, 5, 1, workgroup);
  text.file("reduce");
  dispatch("reduce " + label, text.str(), Bindings::Parts, bind_parts("reduce", Bindings::Parts, nullptr, table), Grid::RowsY,
           workgroups);
}

}  // namespace rwkvnative::webgpu
