#include "cpu/program.h"

#include <algorithm>

#include "core/candidates.h"
#include "core/error.h"

namespace rwkvnative::cpu {
namespace {

constexpr uint32_t kChunkRows = 512;      // at most
constexpr uint32_t kStripRows = 64;       // of a chunk, whose products wait to be added or activated
constexpr uint32_t kChunksPerWorker = 8;  // enough that a slow worker does not hold up the others

}  // namespace

CpuProgram::CpuProgram(CpuModel& model, const Shape& shape)
    : model_(model),
      plan_(model.plan),
      workspace_(model.workspace),
      kernels_(model.kernels),
      shape_(shape) {
  for (size_t i = 0; i < plan_.ops.size(); ++i) {
    const Op& op = plan_.ops[i];
    if (const auto* o = std::get_if<EmbedOp>(&op)) steps_.push_back(paged(i, embed(*o)));
    if (const auto* o = std::get_if<ShiftMixOp>(&op)) steps_.push_back(paged(i, shift_mix(*o)));
    if (const auto* o = std::get_if<LinearOp>(&op)) steps_.push_back(paged(i, linear(*o)));
    if (const auto* o = std::get_if<Wkv7Op>(&op)) steps_.push_back(paged(i, wkv7(*o)));
    if (const auto* o = std::get_if<HeadOp>(&op); o && shape_.readout != Readout::None) steps_.push_back(paged(i, head(*o)));
  }
  all_steps_ = [this](Worker& worker) {
    // A step ends with a barrier: the first worker's clock is everybody's.
    const auto mark = [&] {
      if (marks_ != nullptr && worker.index() == 0) marks_->push_back(std::chrono::steady_clock::now());
    };
    mark();
    for (const Step& step : steps_) {
      step(worker);
      mark();
    }
  };
  tokens_.reserve(shape_.rows);
  sequence_of_row_.reserve(shape_.rows);
  head_rows_.reserve(shape_.rows);
  sequences_.reserve(shape_.sequences);
  argmax_.resize(shape_.sequences);
  log_sum_exps_.resize(shape_.sequences);
  candidate_ids_.resize(size_t{shape_.sequences} * shape_.candidates);
  candidate_logits_.resize(candidate_ids_.size());
  reserve_head(shape_.sequences);
}

// The step of an op with the hints for the file's pages around it.
CpuProgram::Step CpuProgram::paged(size_t op, Step step) const {
  if (!model_.pages) return step;
  return [op, step = std::move(step), &pages = *model_.pages](Worker& worker) {
    if (worker.index() == 0) pages.before(op);
    step(worker);
    if (worker.index() == 0) pages.after(op);
  };
}

// ---- submit ------------------------------------------------------------------------------------------------------------

Ticket CpuProgram::submit(std::span<const Sequence> sequences) {
  if (sequences.empty() || sequences.size() > shape_.sequences)
    throw InputError(message("submit: expected 1 to ", shape_.sequences, " sequences, got ", sequences.size()));
  tokens_.clear();
  sequences_.clear();
  sequence_of_row_.clear();
  head_rows_.clear();
  for (size_t s = 0; s < sequences.size(); ++s) {
    const Sequence& sequence = sequences[s];
    const auto begin = static_cast<uint32_t>(tokens_.size());
    if (sequence.tokens.empty()) {
      if (shape_.readout != Readout::Argmax || ticket_ == 0)
        throw InputError(message("submit: sequence ", s, " has no tokens and no token before it to go on from"));
      tokens_.push_back(std::max(argmax_[s], 0));  // past a -1 it does not matter
    }
    if (tokens_.size() + sequence.tokens.size() > shape_.rows)
      throw InputError(message("submit: expected at most ", shape_.rows, " tokens"));
    for (int32_t token : sequence.tokens) {
      if (token < 0 || static_cast<uint32_t>(token) >= plan_.n_vocab)
        throw InputError(message("token id: expected 0 to ", plan_.n_vocab - 1, ", got ", token));
      tokens_.push_back(token);
    }
    for (int32_t id : sequence.bias_ids)
      if (id < 0 || static_cast<uint32_t>(id) >= plan_.n_vocab || sequence.bias_ids.size() != sequence.bias_values.size())
        throw InputError(message("bias: expected a value for each token id, ids below ", plan_.n_vocab, ", got ", id));
    const auto end = static_cast<uint32_t>(tokens_.size());
    sequences_.push_back({begin, end, static_cast<const CpuState*>(sequence.state_in), static_cast<CpuState*>(sequence.state_out),
                          sequence.bias_ids, sequence.bias_values});
    for (uint32_t row = begin; row < end; ++row) {
      sequence_of_row_.push_back(static_cast<uint32_t>(s));
      if (shape_.readout == Readout::AllLogits || row + 1 == end) head_rows_.push_back(row);
    }
  }

  reserve_head(head_rows_.size());
  model_.pool.run(all_steps_);

  read_out();
  return ++ticket_;
}

// The head's buffers grow to what has been asked for: all logits of a chunk are many megabytes.
void CpuProgram::reserve_head(size_t rows) {
  if (shape_.readout == Readout::None) return;
  if (normed_.size() < rows * plan_.n_embd) {
    Buffer<Int8Block> blocks(rows * int8_blocks(plan_.n_embd));  // both or none: normed_ says how much there is
    normed_ = Buffer<float>(rows * plan_.n_embd);
    normed_blocks_ = std::move(blocks);
  }
  if (shape_.readout != Readout::Hidden && workspace_.logits.size() < rows * plan_.n_vocab)
    workspace_.logits = Buffer<float>(rows * plan_.n_vocab);
  Product& head = head_group_.products.at(0);
  head.in = normed_.data();
  head.in_blocks = model_.uses_int8(*head.weight) ? normed_blocks_.data() : nullptr;
  head.out = workspace_.logits.data();
}

Result CpuProgram::wait(Ticket ticket) {
  if (ticket != ticket_) throw InputError(message("wait: expected ticket ", ticket_, ", got ", ticket));
  return result_;
}

void CpuProgram::read_out() {
  result_ = {};
  const size_t V = plan_.n_vocab, k = shape_.candidates;
  switch (shape_.readout) {
    case Readout::None: break;
    case Readout::Draw: throw InputError("[cpu] the CPU draws no tokens: LoadedModel::most_drawn() is 0");
    case Readout::LastLogits:
    case Readout::AllLogits: result_.values = {workspace_.logits.data(), head_rows_.size() * V}; break;
    case Readout::Hidden: result_.values = {normed_.data(), head_rows_.size() * plan_.n_embd}; break;
    case Readout::Argmax: result_.tokens = {argmax_.data(), sequences_.size()}; break;
    case Readout::Candidates:
      for (size_t s = 0; s < sequences_.size(); ++s)
        result_.candidates.push_back({{candidate_ids_.data() + s * k, k}, {candidate_logits_.data() + s * k, k}, log_sum_exps_[s]});
      break;
  }
}

void CpuProgram::write_slot(SlotId id, std::span<const float> values) {
  const uint32_t width = plan_.slot(id).width, stride = slot(id).stride;
  if (values.size() % width != 0 || values.size() / width > workspace_.rows)
    throw InputError(message("slot ", plan_.slot(id).name, ": expected rows of ", width, " values, got ", values.size()));
  for (size_t row = 0; row * width < values.size(); ++row)
    std::copy_n(values.data() + row * width, width, slot(id).values.data() + row * stride);
}

void CpuProgram::read_slot(SlotId id, std::span<float> values) const {
  const uint32_t width = plan_.slot(id).width, stride = slot(id).stride;
  if (values.size() % width != 0 || values.size() / width > workspace_.rows)
    throw InputError(message("slot ", plan_.slot(id).name, ": expected rows of ", width, " values, got ", values.size()));
  for (size_t row = 0; row * width < values.size(); ++row)
    std::copy_n(slot(id).values.data() + row * stride, width, values.data() + row * width);
}

const float* CpuProgram::state_in(const SequenceRows& sequence, uint32_t layer, uint32_t part) const {
  if (sequence.state_in) return sequence.state_in->part(layer, part);
  return workspace_.zero_state.data() + plan_.state_part_offset(part);
}

// ---- embed, norm, shift and mix ----------------------------------------------------------------------------------------

CpuProgram::Step CpuProgram::embed(const EmbedOp& op) {
  return [this, op](Worker& worker) {
    const Tensor& table = plan_.tensor(op.table);
    const Workspace::SlotBuffer& out = slot(op.out);
    const auto rows = static_cast<uint32_t>(tokens_.size());
    worker.for_tasks(rows, [&](uint32_t row) {
      float* x = out.values.data() + size_t{row} * out.stride;
      traits(table.type).dequantize(table.data + static_cast<size_t>(tokens_[row]) * table.row_bytes, x, table.ne0);
      float mean, scale;
      kernels_.norm_statistics(x, table.ne0, op.epsilon, &mean, &scale);
      kernels_.normalize(x, table.ne0, mean, scale, weights(op.norm_weight), weights(op.norm_bias), x);
    });
  };
}

CpuProgram::Step CpuProgram::shift_mix(const ShiftMixOp& op) {
  return [this, op](Worker& worker) {
    const uint32_t width = plan_.slot(op.x).width;
    const Workspace::SlotBuffer& x = slot(op.x);
    float* outs[8];
    const auto n_out = static_cast<uint32_t>(op.out.size());
    const auto args = [&](uint32_t row, float mean, float scale) {
      for (uint32_t z = 0; z < n_out; ++z) outs[z] = slot(op.out[z]).values.data() + size_t{row} * slot(op.out[z]).stride;
      return MixArgs{.x = x.values.data() + size_t{row} * x.stride,
                     .previous = nullptr,
                     .mean = mean,
                     .scale = scale,
                     .norm_weight = weights(op.norm_weight),
                     .norm_bias = weights(op.norm_bias),
                     .lerp = weights(op.lerp),
                     .lerp_stride = width,
                     .begin = 0,
                     .end = width,
                     .h = nullptr,
                     .out = outs,
                     .n_out = n_out};
    };

    if (tokens_.size() == 1) {
      // Column by column, so that workers share the row; a column's state is read before it is written.
      constexpr uint32_t kColumns = 256;
      worker.for_tasks((width + kColumns - 1) / kColumns, [&](uint32_t task) {
        float mean, scale;
        kernels_.norm_statistics(x.values.data(), width, op.epsilon, &mean, &scale);
        MixArgs a = args(0, mean, scale);
        a.begin = task * kColumns;
        a.end = std::min(width, a.begin + kColumns);
        a.previous = state_in(sequences_[0], op.layer, op.state_part);
        a.h = sequences_[0].state_out->part(op.layer, op.state_part);
        kernels_.mix(a);
      });
      return;
    }

    // A row needs the h of its neighbour, which another worker may be at, and the state may be written in place: so first
    // what rows of sequences of more than one token need of each other.
    const auto rows = static_cast<uint32_t>(tokens_.size());
    const auto statistics = [&](uint32_t row, float* mean, float* scale) {
      kernels_.norm_statistics(x.values.data() + size_t{row} * x.stride, width, op.epsilon, mean, scale);
    };
    if (rows != sequences_.size()) {
      worker.for_tasks(rows, [&](uint32_t row) {
        const uint32_t s = sequence_of_row_[row];
        const SequenceRows& sequence = sequences_[s];
        if (row + 1 == sequence.end) return;
        if (row == sequence.begin)
          std::copy_n(state_in(sequence, op.layer, op.state_part), width, workspace_.previous.data() + size_t{s} * width);
        float mean, scale;
        statistics(row, &mean, &scale);
        kernels_.normalize(x.values.data() + size_t{row} * x.stride, width, mean, scale, weights(op.norm_weight),
                           weights(op.norm_bias), workspace_.h.data() + size_t{row} * width);
      });
    }
    worker.for_tasks(rows, [&](uint32_t row) {
      const uint32_t s = sequence_of_row_[row];
      const SequenceRows& sequence = sequences_[s];
      const bool first = row == sequence.begin, last = row + 1 == sequence.end;
      float mean, scale;
      statistics(row, &mean, &scale);
      MixArgs a = args(row, mean, scale);
      a.previous = !first ? workspace_.h.data() + size_t{row - 1} * width
                   : last ? state_in(sequence, op.layer, op.state_part)
                          : workspace_.previous.data() + size_t{s} * width;
      a.h = last ? sequence.state_out->part(op.layer, op.state_part) : nullptr;
      kernels_.mix(a);
    });
  };
}

// ---- matrices ----------------------------------------------------------------------------------------------------------

CpuProgram::Product CpuProgram::product(TensorId weight, SlotId in, SlotId out, Activation activation, bool accumulate) const {
  const Tensor& tensor = plan_.tensor(weight);
  return {.weight = &tensor,
          .in = slot(in).values.data(),
          .in_stride = slot(in).stride,
          .in_blocks = model_.uses_int8(tensor) ? slot(in).blocks.data() : nullptr,
          .out = slot(out).values.data(),
          .out_stride = slot(out).stride,
          .activation = activation,
          .accumulate = accumulate};
}

CpuProgram::ProductGroup CpuProgram::group(std::vector<Product> products) const {
  ProductGroup group{.products = std::move(products), .int8 = {}, .f32 = {}};
  size_t bytes = 0;
  for (const Product& product : group.products) bytes += product.weight->bytes();
  const size_t chunk_bytes = bytes / (size_t{model_.pool.size()} * kChunksPerWorker) + 1;
  for (uint32_t p = 0; p < group.products.size(); ++p) {
    const Tensor& weight = *group.products[p].weight;
    const auto wanted = static_cast<uint32_t>(chunk_bytes / weight.row_bytes / 16 * 16);
    ProductGroup::Tasks& tasks = model_.uses_int8(weight) ? group.int8 : group.f32;
    const auto cut = [&](std::vector<Task>& out, uint32_t rows) {
      for (uint32_t begin = 0; begin < weight.ne1; begin += rows) out.push_back({p, begin, std::min(begin + rows, weight.ne1)});
    };
    cut(tasks.chunks, std::clamp(wanted, 16u, kChunkRows));
    cut(tasks.tiles, kTileRows);
  }
  return group;
}

void CpuProgram::quantize_inputs(Worker& worker, const ProductGroup& group, uint32_t rows) const {
  // Each input once, a task per row and block.
  struct Input {
    const Product* product;
    uint32_t blocks;
  };
  Input inputs[16];
  uint32_t n_inputs = 0, n_tasks = 0;
  for (const Product& product : group.products) {
    const auto same = [&](const Input& input) { return input.product->in_blocks == product.in_blocks; };
    if (!product.in_blocks || std::any_of(inputs, inputs + n_inputs, same)) continue;
    inputs[n_inputs] = {&product, int8_blocks(product.weight->ne0)};
    n_tasks += inputs[n_inputs++].blocks * rows;
  }
  if (n_tasks == 0) return;
  worker.for_tasks(n_tasks, [&](uint32_t task) {
    const Input* input = inputs;
    for (; task >= input->blocks * rows; ++input) task -= input->blocks * rows;
    const uint32_t row = task / input->blocks, block = task % input->blocks, begin = block * kInt8BlockValues;
    const uint32_t count = std::min(kInt8BlockValues, input->product->weight->ne0 - begin);
    kernels_.quantize(input->product->in + row * input->product->in_stride + begin, count,
                      const_cast<Int8Block*>(input->product->in_blocks) + size_t{row} * input->blocks + block);
  });
}

void CpuProgram::multiply(Worker& worker, const ProductGroup& group, uint32_t rows) const {
  const bool int8_tiles = rows >= kernels_.tile_tokens_int8, f32_tiles = rows >= kernels_.tile_tokens_f32;
  const std::vector<Task>& int8 = int8_tiles ? group.int8.tiles : group.int8.chunks;
  const std::vector<Task>& f32 = f32_tiles ? group.f32.tiles : group.f32.chunks;
  const auto n_int8 = static_cast<uint32_t>(int8.size()), n_tasks = n_int8 + static_cast<uint32_t>(f32.size());
  const auto is_tile = [&](uint32_t i) { return i < n_int8 ? int8_tiles : f32_tiles; };
  const auto task_at = [&](uint32_t i) -> const Task& { return i < n_int8 ? int8[i] : f32[i - n_int8]; };
  worker.for_tasks(n_tasks, [&](uint32_t i) {
    const Task& task = task_at(i);
    const Product& product = group.products[task.product];
    if (!is_tile(i)) return multiply_chunk(worker, product, task, rows);
    pack_tile(worker, product, task);
    const uint32_t next = i + model_.pool.size();  // as long as workers keep step
    multiply_tile(worker, product, task, rows,
                  next < n_tasks && is_tile(next) ? bytes_of(group, task_at(next)) : std::span<const std::byte>());
  });
}

void CpuProgram::multiply_chunk(Worker& worker, const Product& product, const Task& task, uint32_t rows) const {
  const Tensor& weight = *product.weight;
  float values[kMostDotTokens * kStripRows];
  for (uint32_t begin = task.begin; begin < task.end; begin += kStripRows) {
    const std::byte* bytes = weight.data + begin * weight.row_bytes;
    const uint32_t count = std::min(kStripRows, task.end - begin);
    if (product.in_blocks)
      kernels_.dot_int8(weight.type, bytes, weight.row_bytes, weight.ne0, count, product.in_blocks, rows, values, kStripRows);
    else
      kernels_.dot_f32(weight.type, bytes, weight.row_bytes, weight.ne0, count, product.in, product.in_stride, rows, values,
                       kStripRows, workspace_.scratch[worker.index()].decoded.data());
    for (uint32_t row = 0; row < rows; ++row) finish(product, begin, count, row, values + size_t{row} * kStripRows);
  }
}

std::span<const std::byte> CpuProgram::bytes_of(const ProductGroup& group, const Task& task) {
  const Tensor& weight = *group.products[task.product].weight;
  return {weight.data + task.begin * weight.row_bytes, (task.end - task.begin) * weight.row_bytes};
}

void CpuProgram::pack_tile(Worker& worker, const Product& product, const Task& task) const {
  const Tensor& weight = *product.weight;
  const std::byte* bytes = weight.data + task.begin * weight.row_bytes;
  const uint32_t count = task.end - task.begin;
  const Workspace::Scratch& scratch = workspace_.scratch[worker.index()];
  if (product.in_blocks)
    kernels_.pack_tile_int8(weight.type, bytes, weight.row_bytes, weight.ne0, count, scratch.tile.data());
  else
    kernels_.pack_tile_f32(weight.type, bytes, weight.row_bytes, weight.ne0, count, reinterpret_cast<float*>(scratch.tile.data()));
}

void CpuProgram::multiply_tile(Worker& worker, const Product& product, const Task& task, uint32_t rows,
                               std::span<const std::byte> ahead) const {
  const Tensor& weight = *product.weight;
  const uint32_t count = task.end - task.begin;
  const Workspace::Scratch& scratch = workspace_.scratch[worker.index()];
  float* products = scratch.products.data();
  if (product.in_blocks)
    kernels_.multiply_tile_int8(weight.type, scratch.tile.data(), weight.ne0, product.in_blocks, rows, products, kTileRows,
                                ahead);
  else
    kernels_.multiply_tile_f32(reinterpret_cast<const float*>(scratch.tile.data()), weight.ne0, product.in, product.in_stride,
                               rows, products, kTileRows);
  for (uint32_t row = 0; row < rows; ++row) finish(product, task.begin, count, row, products + size_t{row} * kTileRows);
}

// Activation and residual, into the output.
void CpuProgram::finish(const Product& product, uint32_t begin, uint32_t count, uint32_t row, const float* values) const {
  float* out = product.out + row * product.out_stride + begin;
  if (product.accumulate) {
    for (uint32_t i = 0; i < count; ++i) out[i] += values[i];
    return;
  }
  std::copy_n(values, count, out);
  switch (product.activation) {
    case Activation::None: break;
    case Activation::Tanh: kernels_.tanh(out, count); break;
    case Activation::Sigmoid: kernels_.sigmoid(out, count); break;
    case Activation::ReluSquared: kernels_.relu_squared(out, count); break;
  }
}

CpuProgram::Step CpuProgram::linear(const LinearOp& op) {
  std::vector<Product> products;
  for (const LinearPart& part : op.parts)
    products.push_back(product(part.weight, part.in, part.out, part.activation, part.accumulate));
  return [this, group = group(std::move(products))](Worker& worker) {
    const auto rows = static_cast<uint32_t>(tokens_.size());
    quantize_inputs(worker, group, rows);
    multiply(worker, group, rows);
  };
}

// ---- time mix ----------------------------------------------------------------------------------------------------------

CpuProgram::Step CpuProgram::wkv7(const Wkv7Op& op) {
  const bool first = op.v2 == kNone;
  const auto lora = [&](TensorId weight, SlotId hidden, Buffer<float>& out) {
    Product p = product(weight, hidden, hidden, Activation::None, false);
    p.out = out.data();
    p.out_stride = plan_.n_embd;
    return p;
  };
  std::vector<Product> loras = {lora(op.w2, op.w_hidden, workspace_.lora[0]), lora(op.a2, op.a_hidden, workspace_.lora[1]),
                                lora(op.g2, op.g_hidden, workspace_.lora[2])};
  if (!first) loras.push_back(lora(op.v2, op.v_hidden, workspace_.lora[3]));

  return [this, op, first, group = group(std::move(loras))](Worker& worker) {
    const auto rows = static_cast<uint32_t>(tokens_.size());
    quantize_inputs(worker, group, rows);
    multiply(worker, group, rows);

    const uint32_t N = plan_.head_size, n_head = plan_.n_head;
    worker.for_tasks(static_cast<uint32_t>(sequences_.size()) * n_head, [&](uint32_t task) {
      const SequenceRows& sequence = sequences_[task / n_head];
      const uint32_t head = task % n_head, channel = head * N, stride = slot(op.r).stride;
      const size_t at = size_t{sequence.begin} * stride + channel;
      const size_t state = size_t{head} * N * N;
      const auto values = [&](SlotId id) { return slot(id).values.data() + at; };
      const auto parameter = [&](TensorId id) { return id == kNone ? nullptr : weights(id) + channel; };
      kernels_.wkv7({
          .head_size = N,
          .tokens = sequence.end - sequence.begin,
          .stride = stride,
          .r = values(op.r),
          .k = values(op.k),
          .v = values(op.v),
          .w_lora = workspace_.lora[0].data() + at,
          .a_lora = workspace_.lora[1].data() + at,
          .v_lora = first ? nullptr : workspace_.lora[3].data() + at,
          .g_lora = workspace_.lora[2].data() + at,
          .w0 = parameter(op.w0),
          .a0 = parameter(op.a0),
          .v0 = parameter(op.v0),
          .k_k = parameter(op.k_k),
          .k_a = parameter(op.k_a),
          .r_k = parameter(op.r_k),
          .norm_weight = parameter(op.norm_weight),
          .norm_bias = parameter(op.norm_bias),
          .norm_epsilon = op.norm_epsilon,
          .v_first = values(op.v_first),
          .state_in = state_in(sequence, op.layer, op.state_part) + state,
          .state_out = sequence.state_out->part(op.layer, op.state_part) + state,
          .y = values(op.out),
      });
    });
  };
}

// ---- head --------------------------------------------------------------------------------------------------------------

CpuProgram::Step CpuProgram::head(const HeadOp& op) {
  const Tensor& weight = plan_.tensor(op.weight);
  head_group_ = group({{.weight = &weight,
                        .in = nullptr,
                        .in_stride = plan_.n_embd,
                        .in_blocks = nullptr,
                        .out = nullptr,
                        .out_stride = plan_.n_vocab,
                        .activation = Activation::None,
                        .accumulate = false}});
  return [this, op](Worker& worker) {
    const uint32_t C = plan_.n_embd;
    const auto rows = static_cast<uint32_t>(head_rows_.size());
    worker.for_tasks(rows, [&](uint32_t i) {
      const Workspace::SlotBuffer& x = slot(op.x);
      const float* values = x.values.data() + size_t{head_rows_[i]} * x.stride;
      float mean, scale;
      kernels_.norm_statistics(values, C, op.epsilon, &mean, &scale);
      kernels_.normalize(values, C, mean, scale, weights(op.norm_weight), weights(op.norm_bias), normed_.data() + size_t{i} * C);
    });
    if (shape_.readout == Readout::Hidden) return;
    quantize_inputs(worker, head_group_, rows);
    multiply(worker, head_group_, rows);
    if (shape_.readout == Readout::Candidates || shape_.readout == Readout::Argmax)
      worker.for_tasks(static_cast<uint32_t>(sequences_.size()), [&](uint32_t s) { choose(s); });
  };
}

void CpuProgram::choose(uint32_t s) {
  const std::span<float> logits(workspace_.logits.data() + size_t{s} * plan_.n_vocab, plan_.n_vocab);
  add_bias(logits, sequences_[s].bias_ids, sequences_[s].bias_values);
  if (shape_.readout == Readout::Argmax) {
    argmax_[s] = argmax(logits);
    return;
  }
  const size_t k = shape_.candidates;
  top_candidates(logits, {candidate_ids_.data() + s * k, k}, {candidate_logits_.data() + s * k, k});
  log_sum_exps_[s] = log_sum_exp(logits);
}

}  // namespace rwkvnative::cpu
