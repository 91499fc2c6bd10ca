// Linear ops and the head: which threads take which rows of which matrix.
#include <algorithm>
#include <bit>
#include <map>
#include <tuple>

#include "core/cost.h"
#include "core/error.h"
#include "metal/compile.h"

namespace rwkvnative::metal {
namespace {

// Of kernels/matmul.h.
constexpr uint32_t kMatmulRows = 32, kMatmulOutputs = 64, kMatmulThreads = 128;

// The threads of a row: as many as possible, if they have nearly as little idle time in the last step as fewer would
// have; and as many as it takes to keep the device busy with few rows.
uint32_t choose_lanes(uint32_t items, uint32_t rows, uint32_t threads) {
  const auto efficiency = [&](uint32_t lanes) {
    return static_cast<float>(items) / static_cast<float>(ceil_div(items, lanes) * lanes);
  };
  uint32_t best = 1;
  for (uint32_t lanes = 2; lanes <= 32; lanes *= 2) {
    if (efficiency(lanes) >= 0.95f * efficiency(best)) best = lanes;
  }
  while (best < 32 && best < items && uint64_t{rows} * best < threads) best *= 2;
  return best;
}

uint32_t activation_number(Activation activation, bool accumulate) {
  if (!accumulate) return static_cast<uint32_t>(activation);
  if (activation != Activation::None) throw InputError("[metal] linear: an accumulating part with an activation");
  return 4;  // kAccumulate of kernels/common.h
}

bool is_float(const Tensor& tensor) { return traits(tensor.type).block_values == 1; }

}  // namespace

void Compiler::add(const LinearOp& op) {
  std::vector<Matrix> matrices;
  std::string label = "linear";
  for (const LinearPart& part : op.parts) {
    matrices.push_back(
        {part.weight, static_cast<size_t>(part.in), static_cast<size_t>(part.out), part.activation, part.accumulate});
    label += message(" ", plan_.slot(part.out).name);
  }
  begin_stage();
  add_linear(label, matrices, false);
}

MatrixPart Compiler::part(const Rows& rows, bool of_head) const {
  const Matrix& matrix = rows.matrix;
  const Tensor& weight = plan_.tensor(matrix.weight);
  const SlotPlace& in = slot(matrix.in);
  const SlotPlace& out = slot(matrix.out);
  if (in.width != weight.ne0)
    throw InputError(message("[metal] ", weight.name, ": expected ne0 ", in.width, ", got ", weight.ne0));
  const bool to_results = of_head && logits_are_results();
  if (!to_results && out.width != weight.ne1)
    throw InputError(message("[metal] ", weight.name, ": expected ne1 ", out.width, ", got ", weight.ne1));
  const uint32_t first = rows.placed.first_row;
  const float scale = half_scale(matrix.in);
  return {.weights = rows.placed.offset,
          .rows = rows.placed.rows,
          .first_group = 0,
          .in = offset(in),
          .in_stride = in.stride,
          .out = first + (to_results ? 0 : offset(out)),
          .out_stride = to_results ? weight.ne1 : out.stride,
          .activation = activation_number(matrix.activation, matrix.accumulate),
          .lerp = 0,
          .scale = scale,
          .unscale = scale != 0.0f ? 1.0f / scale : 1.0f,
          .pad = 0};
}

void Compiler::add_linear(const std::string& label, std::span<const Matrix> matrices, bool of_head) {
  uint32_t rows_of_all = 0;
  std::vector<Rows> whole;
  for (const Matrix& matrix : matrices) {
    rows_of_all += plan_.tensor(matrix.weight).ne1;
    const std::span<const PlacedRows> pieces = model_.weights->pieces(matrix.weight);
    if (pieces.size() == 1) {
      whole.push_back({matrix, pieces[0]});
      continue;
    }
    for (const PlacedRows& placed : pieces) {
      const Rows rows{matrix, placed};
      add_linear(label, {&rows, 1}, rows_of_all, of_head);
    }
  }
  add_linear(label, whole, rows_of_all, of_head);
}

// rows_of_all: of the matrices, which decide how many threads share a row: pieces sum as the whole does.
void Compiler::add_linear(const std::string& label, std::span<const Rows> matrices, uint32_t rows_of_all, bool of_head) {
  // A dispatch takes the matrices that differ in rows only. Others run beside it.
  std::map<std::tuple<DType, uint32_t, std::pair<id<MTLBuffer>, uint32_t>, bool>, std::vector<Rows>> kinds;
  for (const Rows& rows : matrices) {
    const Tensor& weight = plan_.tensor(rows.matrix.weight);
    kinds[{weight.type, weight.ne0, rows.placed.memory(), half_scale(rows.matrix.in) != 0.0f}].push_back(rows);
  }
  const uint32_t rows_at_once = of_head ? head_rows() : shape_.rows;
  const bool matmul = device_.options().matmul && rows_at_once >= tuning_.matmul_rows;
  const uint32_t tile = matmul ? kMatmulRows : rows_at_once == 1 ? 1 : 4;
  for (const auto& [kind, of_kind] : kinds) {
    const DType type = std::get<0>(kind);
    for (size_t first = 0; first < of_kind.size(); first += MAX_PARTS) {
      const size_t n = std::min<size_t>(of_kind.size() - first, MAX_PARTS);
      const Tensor& any = plan_.tensor(of_kind[first].matrix.weight);
      const uint32_t items = row_items(any);
      const uint32_t lanes = tuning_.lanes != 0 ? tuning_.lanes : choose_lanes(items, rows_of_all, tuning_.threads);
      uint32_t rows = tuning_.rows;
      if (rows == 0) rows = uint64_t{rows_of_all} * lanes >= 4 * uint64_t{tuning_.threads} ? 2 : 1;
      if (tile != 1) rows = 1;
      const uint32_t rows_per_group = matmul ? kMatmulOutputs : tuning_.simdgroups * (32 / lanes) * rows;
      LinearArguments arguments{.n_parts = static_cast<u32>(n),
                                .of_head = of_head,
                                .row_bytes = of_kind[first].placed.row_bytes,
                                .parts = {}};
      uint32_t groups = 0;
      for (size_t i = 0; i < n; ++i) {
        arguments.parts[i] = part(of_kind[first + i], of_head);
        arguments.parts[i].first_group = groups;
        groups += ceil_div(arguments.parts[i].rows, rows_per_group);
        cost_ = cost_ + matrix_cost(plan_.tensor(of_kind[first + i].matrix.weight), arguments.parts[i].rows, false);
      }
      const Constants constants = Constants()
                                      .set(CONSTANT_ITEMS, items)
                                      .set(CONSTANT_LANES, lanes)
                                      .set(CONSTANT_SIMDGROUPS, tuning_.simdgroups)
                                      .set(CONSTANT_HALF, std::get<3>(kind));
      const bool to_results = of_head && logits_are_results();
      // Half tiles are exact for F16, and F32 and BF16 reach beyond their range.
      const bool half_tile = type == DType::F16 || (!is_float(any) && model_.half_products);
      const std::string function = !matmul     ? message("matvec_", rows, "x", tile)
                                   : half_tile ? "matmul_half"
                                               : "matmul_float";
      Dispatch& d = dispatch(label, kernel_file(type), function, constants,
                             matmul ? kMatmulThreads : 32 * tuning_.simdgroups, arguments,
                             {of_submit(BUFFER_SUBMIT, Source::Submit),
                              act(BUFFER_IN),
                              to_results ? of_submit(BUFFER_OUT, Source::Results) : act(BUFFER_OUT),
                              weights(BUFFER_WEIGHTS, of_kind[first].placed)});
      d.grid = of_head ? Grid::HeadTiles : Grid::RowTiles;
      d.x = groups;
      d.tile = tile;
    }
  }
}

// ---- one token: fewer stages

size_t Compiler::add_fused(size_t op_index) {
  if (!one_token() || !device_.options().fuse || op_index + 1 >= plan_.ops.size()) return 0;
  const auto* mix = std::get_if<ShiftMixOp>(&plan_.ops[op_index]);
  const auto* linear = std::get_if<LinearOp>(&plan_.ops[op_index + 1]);
  if (mix == nullptr || linear == nullptr || !can_mix(*mix, *linear)) return 0;
  const auto* wkv7 = op_index + 2 < plan_.ops.size() ? std::get_if<Wkv7Op>(&plan_.ops[op_index + 2]) : nullptr;
  if (wkv7 == nullptr) {
    if (tuning_.fuse < 2) return 0;
    begin_stage();
    add_mix_linear("mix_linear", *mix, linear->parts, true);
    return 2;
  }
  add_time_mix(*mix, *linear, *wkv7);
  return 3;
}

// Whether all parts read mixes, and a row of them fits a threadgroup's memory.
bool Compiler::can_mix(const ShiftMixOp& mix, const LinearOp& linear) const {
  constexpr uint32_t kOtherMemory = 1024;  // of the reductions
  const uint32_t width = slot(mix.x).width;
  if (width % 8 != 0 || width * sizeof(float) + kOtherMemory > device_.max_threadgroup_memory()) return false;
  return mix.out.size() <= MAX_MIXES && std::all_of(linear.parts.begin(), linear.parts.end(), [&](const LinearPart& part) {
           return !part.accumulate && plan_.tensor(part.weight).ne0 == width &&
                  std::find(mix.out.begin(), mix.out.end(), part.in) != mix.out.end();
         });
}

// wkv7 takes float matrices of one type that one binding reaches.
bool Compiler::in_wkv7(std::span<const Matrix> loras) const {
  const auto kind = [&](const Matrix& lora) {
    return std::pair(plan_.tensor(lora.weight).type, (*model_.weights)[lora.weight].memory());
  };
  return std::all_of(loras.begin(), loras.end(), [&](const Matrix& lora) {
    return is_float(plan_.tensor(lora.weight)) && kind(lora) == kind(loras[0]);
  });
}

void Compiler::add_time_mix(const ShiftMixOp& mix, const LinearOp& linear, const Wkv7Op& wkv7) {
  const std::vector<Matrix> loras = second_loras(wkv7);
  if (tuning_.fuse == 2) {
    begin_stage();
    add_mix_linear("mix_linear", mix, linear.parts, true);
    if (in_wkv7(loras)) return add_wkv7(wkv7, true);
    begin_stage();
    add_linear("lora", loras, false);
    return add_wkv7(wkv7);
  }
  std::vector<LinearPart> first_loras;
  std::vector<Matrix> later;
  bool wanted[MAX_MIXES] = {};
  for (const LinearPart& part : linear.parts) {
    const bool is_first_lora = part.out == wkv7.w_hidden || part.out == wkv7.a_hidden || part.out == wkv7.v_hidden ||
                               part.out == wkv7.g_hidden;
    if (is_first_lora) {
      first_loras.push_back(part);
      continue;
    }
    wanted[std::find(mix.out.begin(), mix.out.end(), part.in) - mix.out.begin()] = true;
    later.push_back({part.weight, static_cast<size_t>(part.in), static_cast<size_t>(part.out), part.activation, false});
  }
  begin_stage();
  add_shift_mix(mix, std::span(wanted, mix.out.size()));
  add_mix_linear("mix_lora", mix, first_loras, false);
  later.insert(later.end(), loras.begin(), loras.end());
  begin_stage();
  add_linear("linear r k v lora", later, false);
  add_wkv7(wkv7);
}

void Compiler::add_mix_linear(const std::string& label, const ShiftMixOp& mix, std::span<const LinearPart> parts, bool all) {
  const SlotPlace& x = slot(mix.x);
  const uint32_t simdgroups = all ? tuning_.mix_simdgroups : tuning_.lora_simdgroups;
  const uint32_t passes = all ? tuning_.mix_passes : 1;
  std::string name = label;
  uint32_t rows_of_all = 0;
  std::map<std::tuple<DType, std::pair<id<MTLBuffer>, uint32_t>>, std::vector<LinearPart>> kinds;
  for (const LinearPart& part : parts) {
    kinds[{plan_.tensor(part.weight).type, (*model_.weights)[part.weight].memory()}].push_back(part);
    rows_of_all += plan_.tensor(part.weight).ne1;
    if (all) name += message(" ", plan_.slot(part.out).name);
  }
  const bool half = half_scale(static_cast<size_t>(mix.out[0])) != 0.0f;  // of all of them, or of none
  bool keeps_state = all;
  if (all) cost_ = shift_mix_cost(plan_, mix);
  for (const auto& [kind, of_kind] : kinds) {
    const DType type = std::get<0>(kind);
    for (size_t first = 0; first < of_kind.size(); first += MAX_PARTS) {
      const size_t n = std::min<size_t>(of_kind.size() - first, MAX_PARTS);
      const uint32_t items = row_items(plan_.tensor(of_kind[first].weight));
      uint32_t lanes = 32, rows = 1;
      if (all) lanes = tuning_.lanes != 0 ? tuning_.lanes : choose_lanes(items, rows_of_all, tuning_.threads);
      if (all) rows = tuning_.rows != 0 ? tuning_.rows : uint64_t{rows_of_all} * lanes >= 4 * uint64_t{tuning_.threads} ? 2 : 1;
      MixLinearArguments arguments{.x = offset(x),
                                   .n_parts = static_cast<u32>(n),
                                   .keeps_state = std::exchange(keeps_state, false),
                                   .pad = 0,
                                   .row_bytes = (*model_.weights)[of_kind[first].weight].row_bytes,
                                   .state = model_.states->layout().place(mix.layer, mix.state_part),
                                   .parts = {}};
      uint32_t groups = 0;
      for (size_t i = 0; i < n; ++i) {
        const LinearPart& each = of_kind[first + i];
        const Matrix matrix{each.weight, static_cast<size_t>(each.in), static_cast<size_t>(each.out), each.activation};
        arguments.parts[i] = part({matrix, (*model_.weights)[each.weight]}, false);
        arguments.parts[i].first_group = groups;
        const auto z = static_cast<uint32_t>(std::find(mix.out.begin(), mix.out.end(), each.in) - mix.out.begin());
        arguments.parts[i].lerp = z * x.width;
        groups += ceil_div(arguments.parts[i].rows, simdgroups * (32 / lanes) * rows * passes);
        cost_ = cost_ + matrix_cost(plan_.tensor(each.weight), arguments.parts[i].rows, false);
      }
      const Constants constants = norm_constants(x.width, mix.epsilon)
                                      .set(CONSTANT_ITEMS, items)
                                      .set(CONSTANT_LANES, lanes)
                                      .set(CONSTANT_PASSES, passes)
                                      .set(CONSTANT_HALF, half);
      Dispatch& d = dispatch(name, kernel_file(type), message("mix_linear_", rows), constants, 32 * simdgroups, arguments,
                             {of_submit(BUFFER_SEQUENCES, Source::Sequences),
                              act(BUFFER_IN),
                              act(BUFFER_OUT),
                              weights(BUFFER_WEIGHTS, (*model_.weights)[of_kind[first].weight]),
                              of_submit(BUFFER_STATE_IN, Source::StateIn),
                              of_submit(BUFFER_STATE_OUT, Source::StateOut),
                              vector(BUFFER_VECTOR_0, mix.norm_weight),
                              vector(BUFFER_VECTOR_1, mix.norm_bias),
                              vector(BUFFER_VECTOR_2, mix.lerp, static_cast<uint32_t>(mix.out.size()))});
      d.x = groups;
      d.threadgroup_bytes = (x.width + 7) / 8 * 8 * (half ? sizeof(uint16_t) : sizeof(float));
    }
  }
}

}  // namespace rwkvnative::metal
