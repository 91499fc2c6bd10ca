// What ends in a row's layer norm: the embedding, the token shift of one token and its mixes, the head's norm. And the int8 form of
// what a kernel could not quantize itself.
#include <algorithm>

#include "core/cost.h"
#include "core/error.h"
#include "core/pack.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {

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
    const auto row_vec4s = static_cast<uint32_t>(row_bytes / 16);
    if (const WGPUBuffer whole = model_.stream->table(); whole != nullptr) {
      const auto fit = static_cast<uint32_t>(std::min<uint64_t>(table.ne1, device_.max_binding() / row_bytes / 16 * 16));
      for (uint32_t row = 0; row < table.ne1; row += fit) {
        const uint32_t rows = std::min(fit, table.ne1 - row);
        pieces.push_back({{op.table, row, rows, 0, row_vec4s}, {whole, row * row_bytes, rows * row_bytes}});
      }
    } else {
      compiled_.table_rows = device_.create_buffer("embedding rows", shape_.rows * row_bytes,
                                                   WGPUBufferUsage_Storage | WGPUBufferUsage_CopyDst);
      pieces.push_back({{op.table, 0, shape_.rows, 0, row_vec4s}, {compiled_.table_rows.get()}});
    }
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

ShaderText Compiler::shift_mix_text(const ShiftMixOp& op, size_t op_index, uint32_t& chunk) const {
  const WeightGroup& group = model_.weights->groups(op_index)[0];
  const SlotPlace& x = slot(static_cast<size_t>(op.x));
  vector(op.norm_weight), vector(op.norm_bias), vector(op.lerp);
  const PlacedRows& lerp = placed(group, op.lerp);
  // Mix(lerp, values, codes, heads, has_values, has_codes)
  std::string cases;
  const auto mixes = static_cast<uint32_t>(op.out.size());
  for (uint32_t z = 0; z < mixes; ++z) {
    const SlotPlace& out = slot(static_cast<size_t>(op.out[z]));
    cases += message("  if (z == ", z, "u) { return Mix(", lerp.at + z * lerp.row_vec4s, "u, ", out.values, "u, ",
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
  ShaderText text = shift_mix_text(op, op_index, chunk);
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
