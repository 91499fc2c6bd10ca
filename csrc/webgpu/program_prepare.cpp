// What a submit tells its kernels: rows and tokens, rows of the embedding table that the host gathers, biases, states.
#include <algorithm>
#include <bit>

#include "core/error.h"
#include "core/pack.h"
#include "webgpu/program.h"

namespace rwkvnative::webgpu {
namespace {

const DeviceState& device_state(const State& state, const StateArena* arena) {
  const auto* own = dynamic_cast<const DeviceState*>(&state);
  if (own == nullptr || own->arena() != arena) throw InputError("[webgpu] the state belongs to another model");
  return *own;
}

}  // namespace

DeviceProgram::Work DeviceProgram::prepare(std::span<const Sequence> sequences) {
  if (sequences.empty() || sequences.size() > shape_.sequences) {
    throw InputError(message("[webgpu] submit: expected 1 to ", shape_.sequences, " sequences, got ", sequences.size()));
  }
  std::fill(params_.begin(), params_.end(), 0u);
  Work work;
  sequence_rows_.clear();
  work.sequences = static_cast<uint32_t>(sequences.size());
  for (uint32_t s = 0; s < sequences.size(); ++s) {
    const Sequence& sequence = sequences[s];
    if (sequence.state_out == nullptr) throw InputError("[webgpu] submit: a sequence has no state to write");
    device_state(*sequence.state_out, model_->states.get());
    if (sequence.state_in != nullptr) device_state(*sequence.state_in, model_->states.get());
    if (sequence.tokens.empty() && !(has_choice_ && chooses())) {
      throw InputError("[webgpu] submit: a sequence without tokens needs an earlier submit that chose one");
    }
    const uint32_t rows = std::max<uint32_t>(1, static_cast<uint32_t>(sequence.tokens.size()));
    if (rows > shape_.rows - work.rows)
      throw InputError(message("[webgpu] submit: expected at most ", shape_.rows, " tokens"));
    uint32_t* info = params_.data() + 4 * (1 + shape_.rows + s);
    info[0] = work.rows;
    info[1] = rows;
    sequence_rows_.push_back({work.rows, rows});
    for (uint32_t r = 0; r < rows; ++r) {
      const int32_t token = sequence.tokens.empty() ? -1 : sequence.tokens[r];
      if (!sequence.tokens.empty() && (token < 0 || static_cast<uint32_t>(token) >= model_->plan->n_vocab)) {
        throw InputError(message("[webgpu] submit: expected token ids below ", model_->plan->n_vocab, ", got ", token));
      }
      uint32_t* row = params_.data() + 4 * (1 + work.rows + r);
      row[0] = compiled_.table_rows ? work.rows + r : static_cast<uint32_t>(token);
      row[1] = s;
    }
    work.rows += rows;
  }
  work.head_rows = shape_.readout == Readout::AllLogits ? work.rows : work.sequences;
  params_[0] = work.rows;
  params_[1] = work.sequences;
  params_[2] = work.head_rows;
  prepare_bias(sequences, work);
  if (shape_.readout == Readout::Draw) prepare_draws(sequences, work);
  prepare_states(sequences);
  if (compiled_.table_rows) gather_table_rows(sequences);
  if (params_ != written_params_) {
    dawn().QueueWriteBuffer(model_->device->queue(), compiled_.params.get(), 0, params_.data(),
                            params_.size() * sizeof(uint32_t));
    written_params_ = params_;
  }
  return work;
}

void DeviceProgram::gather_table_rows(std::span<const Sequence> sequences) {
  const auto embed = std::find_if(model_->plan->ops.begin(), model_->plan->ops.end(),
                                  [](const Op& op) { return std::holds_alternative<EmbedOp>(op); });
  const Tensor& table = model_->plan->tensor(std::get<EmbedOp>(*embed).table);
  const size_t row_bytes = packed_row_bytes(table.type, table.ne0);
  table_rows_.clear();
  for (size_t s = 0; s < sequences.size(); ++s) {
    const std::span<const int32_t> chosen(chosen_.data() + (sequences[s].tokens.empty() ? s : 0), 1);
    for (int32_t token : sequences[s].tokens.empty() ? chosen : sequences[s].tokens) {
      table_rows_.resize(table_rows_.size() + row_bytes);
      pack_rows(table.type, table.ne0, table.data + static_cast<size_t>(token) * table.row_bytes, table.row_bytes, 1,
                table_rows_.data() + table_rows_.size() - row_bytes);
    }
  }
  dawn().QueueWriteBuffer(model_->device->queue(), compiled_.table_rows.get(), 0, table_rows_.data(), table_rows_.size());
}

void DeviceProgram::prepare_bias(std::span<const Sequence> sequences, Work& work) {
  if (shape_.readout != Readout::Candidates && !chooses()) return;
  bias_.assign(4, 0u);
  for (uint32_t s = 0; s < sequences.size(); ++s) {
    const Sequence& sequence = sequences[s];
    if (sequence.bias_ids.size() != sequence.bias_values.size())
      throw InputError("[webgpu] submit: as many bias values as ids expected");
    const size_t begin = bias_.size();
    for (size_t i = 0; i < sequence.bias_ids.size(); ++i) {
      const int32_t id = sequence.bias_ids[i];
      if (id < 0 || static_cast<uint32_t>(id) >= model_->plan->n_vocab)
        throw InputError(message("[webgpu] submit: bias for token ", id, ", expected ids below ", model_->plan->n_vocab));
      bias_.insert(bias_.end(), {static_cast<uint32_t>(id), std::bit_cast<uint32_t>(sequence.bias_values[i]), s, 0u});
    }
    // The kernel adds in parallel: one entry for each id.
    struct Entry {
      uint32_t id, value, sequence, pad;
    };
    auto* first = reinterpret_cast<Entry*>(bias_.data() + begin);
    auto* last = first + sequence.bias_ids.size();
    std::stable_sort(first, last, [](const Entry& a, const Entry& b) { return a.id < b.id; });
    Entry* out = first;
    for (Entry* in = first; in != last; ++in) {
      if (out != first && out[-1].id == in->id) {
        out[-1].value = std::bit_cast<uint32_t>(std::bit_cast<float>(out[-1].value) + std::bit_cast<float>(in->value));
      } else {
        *out++ = *in;
      }
    }
    bias_.resize(begin + 4 * static_cast<size_t>(out - first));
  }
  work.bias = static_cast<uint32_t>(bias_.size() / 4 - 1);
  if (work.bias == 0) return;
  bias_[0] = work.bias;
  if (bias_.size() * sizeof(uint32_t) > compiled_.bias.size) {
    throw InputError(message("[webgpu] submit: at most ", compiled_.bias.size / 16 - 1, " biased tokens, got ", work.bias));
  }
  dawn().QueueWriteBuffer(model_->device->queue(), compiled_.bias.get(), 0, bias_.data(), bias_.size() * sizeof(uint32_t));
}

void DeviceProgram::prepare_states(std::span<const Sequence> sequences) {
  if (table_) {
    table_->prepare(sequences, sequence_rows_);
  } else if (compiled_.reads_other_states && !is_apart(sequences[0])) {
    static_cast<DeviceState*>(sequences[0].state_out)->acquire_back();
  }
}

}  // namespace rwkvnative::webgpu
