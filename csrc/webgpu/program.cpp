#include "webgpu/program.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/candidates.h"
#include "core/error.h"
#include "core/pack.h"

namespace rwkvnative::webgpu {
namespace {

constexpr size_t kFirstShare = 16;  // dispatches that are submitted before the rest is encoded

const DeviceState& device_state(const State& state, const StateArena* arena) {
  const auto* own = dynamic_cast<const DeviceState*>(&state);
  if (own == nullptr || own->arena() != arena) throw InputError("[webgpu] the state belongs to another model");
  return *own;
}

uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

// The logit that a key of kernels/candidates.wgsl stands for.
float key_logit(uint32_t key) { return std::bit_cast<float>((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key); }

}  // namespace

DeviceProgram::DeviceProgram(std::shared_ptr<const LoadedParts> model, const Shape& shape)
    : model_(std::move(model)), shape_(shape), compiled_(compile(*model_, shape_)) {
  const bool reads_back = shape.readout != Readout::None;
  // Where the host gathers the embedding rows it must know a token before it can begin the next.
  flights_.resize(model_->weights->table_on_host() ? 1 : std::max(1u, model_->device->options().tuned.all.in_flight));
  const uint32_t head_rows = shape.readout == Readout::AllLogits ? shape.rows : shape.sequences;
  for (Flight& flight : flights_) {
    if (!reads_back) continue;
    flight.readback = model_->device->create_buffer("results", result_bytes(shape.sequences, head_rows),
                                                    WGPUBufferUsage_MapRead | WGPUBufferUsage_CopyDst);
  }
  if (shape.rows != 1 || shape.sequences != 1) table_.emplace(model_, shape.sequences, compiled_.covers_state);
  params_.resize(4 * (1 + size_t{shape.sequences} + shape.rows));
}

DeviceProgram::~DeviceProgram() = default;

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
  } else if (compiled_.reads_other_states) {
    static_cast<DeviceState*>(sequences[0].state_out)->acquire_back();
  }
}

void DeviceProgram::encode_states(WGPUCommandEncoder encoder, std::span<const Sequence> sequences) const {
  if (table_) return table_->encode_copies(encoder);
  const auto& out = *static_cast<const DeviceState*>(sequences[0].state_out);
  const auto* in = static_cast<const DeviceState*>(sequences[0].state_in);
  if (in == nullptr || in->fresh()) {
    model_->states->clear(encoder, out.slot());
  } else if (in != &out && !compiled_.reads_other_states) {
    model_->states->copy(encoder, in->slot(), out.slot());
  }
}

// The groups of a kernel that works on a part of one sequence's state.
void DeviceProgram::bind_one_state(WGPUComputePassEncoder pass, const Dispatch& dispatch, const Sequence& sequence) const {
  const StateArena& arena = *model_->states;
  const auto& out = *static_cast<const DeviceState*>(sequence.state_out);
  const auto* in = static_cast<const DeviceState*>(sequence.state_in);
  if (in == nullptr || in->fresh()) in = &out;  // it was cleared in place
  const StateArena::Slot& written = compiled_.reads_other_states ? out.back() : out.slot();
  const auto layer = static_cast<uint32_t>(dispatch.layer);
  const uint32_t offset = arena.part_offset(written, dispatch.state_part);
  dawn().ComputePassEncoderSetBindGroup(pass, 1, arena.part_group(written, layer, dispatch.state_part), 1, &offset);
  if (!compiled_.reads_other_states) return;
  const uint32_t other = arena.part_offset(in->slot(), dispatch.state_part);
  dawn().ComputePassEncoderSetBindGroup(pass, 2, arena.other_part_group(in->slot(), layer, dispatch.state_part), 1,
                                        &other);
}

void DeviceProgram::encode(WGPUComputePassEncoder pass, const Dispatch& dispatch, std::span<const Sequence> sequences,
                           const Work& work, bool carries) const {
  if (dispatch.grid == Grid::Bias && work.bias == 0) return;
  if (dispatch.grid == Grid::History && work.used == 0) return;
  dawn().ComputePassEncoderSetPipeline(pass, dispatch.kernel->pipeline.get());
  dawn().ComputePassEncoderSetBindGroup(pass, 0, dispatch.group.get(), 0, nullptr);
  if (const uint32_t number = dispatch.kernel->carry_group; number != 0) {
    const BindGroupHandle& group = dispatch.carry ? dispatch.carry.group : compiled_.carries_nothing;
    dawn().ComputePassEncoderSetBindGroup(pass, number, group.get(), 0, nullptr);
  }
  const auto run = [&](uint32_t x, uint32_t y) {
    const uint32_t carrying = carries ? carrying_layers(uint64_t{x} * y) : 0;
    dawn().ComputePassEncoderDispatchWorkgroups(pass, x, y, carrying + 1);
    carries = false;
  };
  uint32_t x = dispatch.x, y = 1;
  switch (dispatch.grid) {
    case Grid::Fixed:
      break;
    case Grid::Rows:
      x = work.rows;
      break;
    case Grid::RowTiles:
      y = ceil_div(work.rows, dispatch.tile);
      break;
    case Grid::RowsY:
      y = work.rows;
      break;
    case Grid::RowsBy:
      x = work.rows, y = dispatch.x;
      break;
    case Grid::HeadRows:
      x = work.head_rows, y = dispatch.x;
      break;
    case Grid::HeadTiles:
      y = ceil_div(work.head_rows, dispatch.tile);
      break;
    case Grid::Sequences:
      y = work.sequences;
      break;
    case Grid::Bias:
      x = ceil_div(work.bias, dispatch.x);
      break;
    case Grid::History:
      x = ceil_div(work.used, dispatch.x);
      break;
    case Grid::SequenceRows:
      bind_one_state(pass, dispatch, sequences[0]);
      x = work.rows, y = dispatch.x;
      break;
    case Grid::EachSequence:
      bind_one_state(pass, dispatch, sequences[0]);
      break;
    case Grid::StatesRows:
    case Grid::StatesSequences:
      for (size_t block = 0; block < table_->blocks(); ++block) {
        table_->bind(pass, block, static_cast<uint32_t>(dispatch.layer));
        dispatch.grid == Grid::StatesRows ? run(work.rows, dispatch.x) : run(dispatch.x, work.sequences);
      }
      return;
  }
  run(x, y);
}

// A token's first dispatches are submitted while the rest is encoded: where nobody else keeps the device busy it has work
// after the first few, not after all of them.
void DeviceProgram::encode_whole(EncoderHandle& encoder, std::span<const Sequence> sequences, const Work& work) const {
  const Device& device = *model_->device;
  const bool idle = std::all_of(flights_.begin(), flights_.end(), [](const Flight& f) { return f.ticket == 0; });
  const size_t n = compiled_.dispatches.size();
  for (size_t begin = 0, share = kFirstShare; begin < n; share *= 4) {
    const size_t end = idle && n - begin > 2 * share ? begin + share : n;
    WGPUComputePassDescriptor descriptor{};
    {
      const PassHandle pass(dawn().CommandEncoderBeginComputePass(encoder.get(), &descriptor));
      for (size_t i = begin; i < end; ++i) encode(pass.get(), compiled_.dispatches[i], sequences, work);
      dawn().ComputePassEncoderEnd(pass.get());
    }
    begin = end;
    if (begin == n) break;
    device.submit(std::move(encoder));
    encoder = device.create_encoder("program");
  }
}

void DeviceProgram::encode_streaming(EncoderHandle& encoder, std::span<const Sequence> sequences, const Work& work) const {
  WeightStream& stream = *model_->stream;
  size_t submitted = 0, share = kFirstShare;  // dispatches
  try {
    for (const Run& run : compiled_.runs) {
      const uint32_t next = run.carries_next ? kNoUnit : run.next;
      if (run.unit != kNoUnit) stream.before(run.unit, next, encoder);
      {
        WGPUComputePassDescriptor descriptor{};
        const PassHandle pass(dawn().CommandEncoderBeginComputePass(encoder.get(), &descriptor));
        for (size_t i = run.begin; i < run.end; ++i) {
          const Dispatch& dispatch = compiled_.dispatches[i];
          encode(pass.get(), dispatch, sequences, work, dispatch.carry && stream.carry(dispatch.carry));
        }
        dawn().ComputePassEncoderEnd(pass.get());
      }
      if (run.unit != kNoUnit) stream.after(next, encoder);
      if (run.end - submitted < share || run.end == compiled_.dispatches.size()) continue;
      model_->device->submit(std::move(encoder));
      encoder = model_->device->create_encoder("program");
      submitted = run.end;
      share *= 4;
    }
  } catch (...) {
    stream.forget();
    throw;
  }
}

void DeviceProgram::states_submitted(std::span<const Sequence> sequences) {
  if (table_) return table_->submitted();
  auto& out = *static_cast<DeviceState*>(sequences[0].state_out);
  compiled_.reads_other_states ? out.flip() : out.set_written();
}

uint64_t DeviceProgram::scratch_bytes() const {
  uint64_t bytes = compiled_.activations.buffer().size + compiled_.activations.halves().size;
  for (const Buffer* buffer : {&compiled_.params, &compiled_.tokens, &compiled_.entries, &compiled_.bias, &compiled_.table_rows,
                               &compiled_.sums, &compiled_.draws, &compiled_.places, &compiled_.history, &compiled_.used})
    bytes += buffer->size;
  for (const Buffer& table : compiled_.tables) bytes += table.size;
  if (compiled_.scratch_tiles) bytes += compiled_.scratch_tiles->size;
  if (table_) bytes += table_->device_bytes();
  for (const Flight& flight : flights_) bytes += flight.readback.size;
  return bytes;
}

uint64_t DeviceProgram::result_bytes(uint32_t sequences, uint32_t head_rows) const {
  const Activations& act = compiled_.activations;
  switch (shape_.readout) {
    case Readout::None:
      return 0;
    case Readout::LastLogits:
    case Readout::AllLogits:
      return uint64_t{head_rows} * act[compiled_.logits_slot].padded * sizeof(float);
    case Readout::Hidden:
      return uint64_t{head_rows} * act[compiled_.hidden_slot].padded * sizeof(float);
    case Readout::Candidates:
      if (compiled_.candidates_on_host) return uint64_t{head_rows} * act[compiled_.logits_slot].padded * sizeof(float);
      return uint64_t{sequences} * compiled_.result_stride * 8;
    case Readout::Argmax:
    case Readout::Draw:
      return uint64_t{sequences} * sizeof(uint32_t);
  }
  return 0;
}

std::pair<WGPUBuffer, uint64_t> DeviceProgram::result_source() const {
  const Activations& act = compiled_.activations;
  if (chooses()) return {compiled_.tokens.get(), 0};
  if (shape_.readout == Readout::Candidates && !compiled_.candidates_on_host) return {compiled_.entries.get(), 0};
  const size_t slot = shape_.readout == Readout::Hidden ? compiled_.hidden_slot : compiled_.logits_slot;
  return {act.buffer().get(), uint64_t{16} * act[slot].values};
}

Ticket DeviceProgram::submit(std::span<const Sequence> sequences) {
  const auto free = std::find_if(flights_.begin(), flights_.end(), [](const Flight& f) { return f.ticket == 0; });
  if (free == flights_.end())
    throw InputError(message("[webgpu] submit: ", flights_.size(), " tickets are open already; wait for one first"));
  Flight& flight = *free;
  const Device& device = *model_->device;
  device.check();
  const auto lock = model_->states->lock();
  const Work work = prepare(sequences);

  EncoderHandle encoder = device.create_encoder("program");
  encode_states(encoder.get(), sequences);
  if (compiled_.history) forget_histories(encoder.get(), sequences);
  if (!compiled_.runs.empty()) {
    encode_streaming(encoder, sequences, work);
  } else {
    encode_whole(encoder, sequences, work);
  }
  flight.sequences = work.sequences;
  flight.head_rows = work.head_rows;
  const uint64_t bytes = result_bytes(work.sequences, work.head_rows);
  if (bytes != 0) {
    const auto [buffer, offset] = result_source();
    dawn().CommandEncoderCopyBufferToBuffer(encoder.get(), buffer, offset, flight.readback.get(), 0, bytes);
  }
  device.submit(std::move(encoder));
  states_submitted(sequences);
  if (bytes != 0) {
    WGPUBufferMapCallbackInfo callback{};
    callback.mode = WGPUCallbackMode_WaitAnyOnly;
    callback.callback = [](WGPUMapAsyncStatus, WGPUStringView, void*, void*) {};
    flight.future = dawn().BufferMapAsync(flight.readback.get(), WGPUMapMode_Read, 0, bytes, callback);
  } else {
    WGPUQueueWorkDoneCallbackInfo callback{};
    callback.mode = WGPUCallbackMode_WaitAnyOnly;
    callback.callback = [](WGPUQueueWorkDoneStatus, WGPUStringView, void*, void*) {};
    flight.future = dawn().QueueOnSubmittedWorkDone(device.queue(), callback);
  }
  has_choice_ = has_choice_ || chooses();
  flight.ticket = ++last_ticket_;
  return flight.ticket;
}

Result DeviceProgram::wait(Ticket ticket) {
  const auto found = std::find_if(flights_.begin(), flights_.end(), [&](const Flight& f) { return f.ticket == ticket; });
  if (ticket == 0 || found == flights_.end()) throw InputError(message("[webgpu] wait: ticket ", ticket, " is not open"));
  found->ticket = 0;
  model_->device->wait(found->future);
  const uint64_t bytes = result_bytes(found->sequences, found->head_rows);
  if (bytes == 0) return {};
  const auto* mapped = static_cast<const std::byte*>(dawn().BufferGetConstMappedRange(found->readback.get(), 0, bytes));
  if (mapped == nullptr)
    throw DeviceError(message("[webgpu] ", model_->device->info().name, ": the results cannot be read back"));
  struct Mapped {  // until the end, whatever ends it: the flight is used again
    WGPUBuffer buffer;
    ~Mapped() { dawn().BufferUnmap(buffer); }
  };
  const Mapped unmapped{found->readback.get()};
  return unpack(*found, mapped);
}

Result DeviceProgram::unpack(Flight& flight, const std::byte* mapped) {
  Result result;
  if (chooses()) {
    flight.ids.resize(flight.sequences);
    std::memcpy(flight.ids.data(), mapped, flight.sequences * sizeof(int32_t));
    result.tokens = flight.ids;
    if (compiled_.table_rows) chosen_ = flight.ids;
    for (int32_t& id : chosen_) id = std::max(id, 0);  // nothing to choose from: the caller stops here
    return result;
  }
  if (shape_.readout == Readout::Candidates) {
    const uint32_t k = std::min(shape_.candidates, model_->plan->n_vocab);
    flight.ids.resize(size_t{flight.sequences} * k);
    flight.values.resize(size_t{flight.sequences} * k);
    flight.candidates.resize(flight.sequences);
    for (uint32_t s = 0; s < flight.sequences; ++s) {
      CandidateList& list = flight.candidates[s];
      list.ids = std::span(flight.ids).subspan(size_t{s} * k, k);
      list.logits = std::span(flight.values).subspan(size_t{s} * k, k);
      if (compiled_.candidates_on_host) {
        host_candidates(
            flight, s,
            reinterpret_cast<const float*>(mapped) + uint64_t{s} * compiled_.activations[compiled_.logits_slot].padded, k);
        continue;
      }
      const auto* entries = reinterpret_cast<const uint32_t*>(mapped) + uint64_t{s} * compiled_.result_stride * 2;
      list.log_sum_exp = std::bit_cast<float>(entries[0]);
      for (uint32_t i = 0; i < k; ++i) {
        flight.values[size_t{s} * k + i] = key_logit(entries[2 * (1 + i)]);
        flight.ids[size_t{s} * k + i] = static_cast<int32_t>(entries[2 * (1 + i) + 1]);
      }
    }
    result.candidates = flight.candidates;
    return result;
  }
  const SlotPlace& slot =
      compiled_.activations[shape_.readout == Readout::Hidden ? compiled_.hidden_slot : compiled_.logits_slot];
  flight.values.resize(size_t{flight.head_rows} * slot.width);
  for (uint32_t row = 0; row < flight.head_rows; ++row) {
    std::memcpy(flight.values.data() + size_t{row} * slot.width, mapped + size_t{row} * slot.padded * sizeof(float),
                slot.width * sizeof(float));
  }
  result.values = flight.values;
  return result;
}

// For more candidates than the device sorts.
void DeviceProgram::host_candidates(Flight& flight, uint32_t sequence, const float* logits, uint32_t k) const {
  const std::span all(logits, model_->plan->n_vocab);
  const size_t at = size_t{sequence} * k;
  top_candidates(all, std::span(flight.ids).subspan(at, k), std::span(flight.values).subspan(at, k));
  flight.candidates[sequence].log_sum_exp = log_sum_exp(all);
}

void DeviceProgram::write_slot(SlotId slot, std::span<const float> values) {
  compiled_.activations.write(*model_->device, static_cast<size_t>(slot), values);
}

void DeviceProgram::read_slot(SlotId slot, std::span<float> values) const {
  compiled_.activations.read(*model_->device, static_cast<size_t>(slot), values);
}

}  // namespace rwkvnative::webgpu
