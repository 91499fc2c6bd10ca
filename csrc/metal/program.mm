#include "metal/program.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace rwkvnative::metal {
namespace {

constexpr uint64_t kAlignment = 256;                  // of an offset into constant memory
constexpr uint64_t kFlightResultBytes = 64ull << 20;  // a program keeps no more flights than whose results take this

const DeviceState& device_state(const State& state, const StatePool* pool) {
  const auto* own = dynamic_cast<const DeviceState*>(&state);
  if (own == nullptr || own->pool() != pool) throw InputError("[metal] the state belongs to another model");
  return *own;
}

DeviceState& state_out(const Sequence& sequence) { return static_cast<DeviceState&>(*sequence.state_out); }

uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

}  // namespace

DeviceProgram::DeviceProgram(std::shared_ptr<const LoadedParts> model, const Shape& shape)
    : model_(std::move(model)), shape_(shape), compiled_(compile(*model_, shape_)) {
  const Device& device = *model_->device;
  const uint64_t result_bytes = std::max<uint64_t>(compiled_.result_bytes, 1);
  // Where the host gathers the embedding rows it must know a token before it can begin the next.
  const uint64_t most = compiled_.table_row_bytes != 0 ? 1 : device.options().tuning.in_flight;
  flights_.resize(std::clamp<uint64_t>(kFlightResultBytes / result_bytes, 1, most));
  const bool has_bias = shape.readout == Readout::Candidates || shape.readout == Readout::Argmax;
  for (Flight& flight : flights_) {
    flight.parameters = device.create_buffer("parameters", rows_offset() + sizeof(RowInfo) * uint64_t{shape.rows});
    if (compiled_.result_bytes != 0) flight.results = device.create_buffer("results", compiled_.result_bytes);
    if (compiled_.table_row_bytes != 0)
      flight.table_rows = device.create_buffer("rows of the table", compiled_.table_row_bytes * shape.rows);
    if (has_bias) {
      const uint64_t most = std::min<uint64_t>(kMaxBiased, uint64_t{model_->plan->n_vocab} * shape.sequences);
      flight.bias = device.create_buffer("bias", most * sizeof(BiasEntry));
    }
  }
}

DeviceProgram::~DeviceProgram() {
  for (const Flight& flight : flights_) {
    for (const CommandBuffer& commands : flight.commands) model_->device->finish(commands);
  }
}

uint64_t DeviceProgram::sequences_offset() const { return kAlignment; }
uint64_t DeviceProgram::rows_offset() const {
  return sequences_offset() +
         (sizeof(SequenceInfo) * uint64_t{shape_.sequences} + kAlignment - 1) / kAlignment * kAlignment;
}
SequenceInfo* DeviceProgram::sequence_infos(const Flight& flight) const {
  return reinterpret_cast<SequenceInfo*>(flight.parameters.contents() + sequences_offset());
}
RowInfo* DeviceProgram::row_infos(const Flight& flight) const {
  return reinterpret_cast<RowInfo*>(flight.parameters.contents() + rows_offset());
}

uint64_t DeviceProgram::scratch_bytes() const {
  uint64_t bytes =
      compiled_.activations.size + compiled_.arguments.size + compiled_.tokens.size + compiled_.entries.size;
  for (const Flight& flight : flights_)
    bytes += flight.parameters.size + flight.bias.size + flight.results.size + flight.table_rows.size;
  return bytes;
}

// ---- what a submit brings

void DeviceProgram::check(std::span<const Sequence> sequences) const {
  if (sequences.empty() || sequences.size() > shape_.sequences) {
    throw InputError(message("[metal] submit: expected 1 to ", shape_.sequences, " sequences, got ", sequences.size()));
  }
  size_t rows = 0;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const Sequence& sequence = sequences[s];
    if (sequence.state_out == nullptr) throw InputError("[metal] submit: a sequence has no state to write");
    device_state(*sequence.state_out, model_->states.get());
    if (sequence.state_in != nullptr) device_state(*sequence.state_in, model_->states.get());
    for (size_t other = 0; other < s; ++other) {
      if (sequences[other].state_out == sequence.state_out)
        throw InputError("[metal] submit: two sequences write the same state");
    }
    if (sequence.tokens.empty() && !(has_choice_ && shape_.readout == Readout::Argmax))
      throw InputError("[metal] submit: a sequence without tokens needs an earlier submit that chose one");
    for (int32_t token : sequence.tokens) {
      if (token < 0 || static_cast<uint32_t>(token) >= model_->plan->n_vocab)
        throw InputError(message("[metal] submit: expected token ids below ", model_->plan->n_vocab, ", got ", token));
    }
    rows += std::max<size_t>(1, sequence.tokens.size());
    if (rows > shape_.rows) throw InputError(message("[metal] submit: expected at most ", shape_.rows, " tokens"));
  }
}

void DeviceProgram::prepare(std::span<const Sequence> sequences, Flight& flight) {
  flight.work = {};
  Work& work = flight.work;
  work.sequences = static_cast<uint32_t>(sequences.size());
  for (uint32_t s = 0; s < sequences.size(); ++s) {
    const std::span<const int32_t> tokens = sequences[s].tokens;
    const uint32_t rows = std::max<uint32_t>(1, static_cast<uint32_t>(tokens.size()));
    sequence_infos(flight)[s].first_row = work.rows;
    sequence_infos(flight)[s].rows = rows;
    for (uint32_t r = 0; r < rows; ++r) {
      const int32_t of_table = compiled_.table_row_bytes != 0 ? static_cast<int32_t>(work.rows + r) : -1;
      row_infos(flight)[work.rows + r] = {of_table >= 0 || tokens.empty() ? of_table : tokens[r], s};
    }
    work.rows += rows;
  }
  work.head_rows = shape_.readout == Readout::AllLogits ? work.rows : work.sequences;
  prepare_bias(sequences, flight);
  prepare_states(sequences, flight);
  if (compiled_.table_row_bytes != 0) gather_table_rows(sequences, flight);
  *reinterpret_cast<Submit*>(flight.parameters.contents()) = {work.rows, work.sequences, work.head_rows, work.bias};
}

void DeviceProgram::gather_table_rows(std::span<const Sequence> sequences, Flight& flight) {
  const auto embed = std::find_if(model_->plan->ops.begin(), model_->plan->ops.end(),
                                  [](const Op& op) { return std::holds_alternative<EmbedOp>(op); });
  const Tensor& table = model_->plan->tensor(std::get<EmbedOp>(*embed).table);
  std::byte* out = flight.table_rows.contents();
  for (size_t s = 0; s < sequences.size(); ++s) {
    const std::span<const int32_t> tokens = sequences[s].tokens.empty() ? std::span(chosen_).subspan(s, 1) : sequences[s].tokens;
    for (const int32_t token : tokens) {
      copy_rows(table, static_cast<uint64_t>(token), 1, out);
      out += compiled_.table_row_bytes;
    }
  }
}

void DeviceProgram::prepare_bias(std::span<const Sequence> sequences, Flight& flight) {
  if (!flight.bias) return;
  auto* entries = reinterpret_cast<BiasEntry*>(flight.bias.contents());
  const size_t room = flight.bias.size / sizeof(BiasEntry);
  size_t n = 0;
  for (uint32_t s = 0; s < sequences.size(); ++s) {
    const Sequence& sequence = sequences[s];
    if (sequence.bias_ids.size() != sequence.bias_values.size())
      throw InputError("[metal] submit: as many bias values as ids expected");
    if (sequence.bias_ids.size() > room - n)
      throw InputError(message("[metal] submit: at most ", room, " biased tokens, got more"));
    const size_t begin = n;
    for (size_t i = 0; i < sequence.bias_ids.size(); ++i) {
      const int32_t id = sequence.bias_ids[i];
      if (id < 0 || static_cast<uint32_t>(id) >= model_->plan->n_vocab)
        throw InputError(
            message("[metal] submit: bias for token ", id, ", expected ids below ", model_->plan->n_vocab));
      entries[n++] = {static_cast<u32>(id), s, sequence.bias_values[i]};
    }
    // The kernel adds in parallel: one entry for each id.
    std::sort(entries + begin, entries + n, [](const BiasEntry& a, const BiasEntry& b) { return a.id < b.id; });
    size_t kept = begin;
    for (size_t i = begin; i < n; ++i) {
      if (kept != begin && entries[kept - 1].id == entries[i].id) {
        entries[kept - 1].value += entries[i].value;
      } else {
        entries[kept++] = entries[i];
      }
    }
    n = kept;
  }
  flight.work.bias = static_cast<uint32_t>(n);
}

// Where each sequence's state is read and written. A state that another sequence of this submit writes is copied first.
void DeviceProgram::prepare_states(std::span<const Sequence> sequences, Flight& flight) {
  ranges_.clear();
  for (uint32_t s = 0; s < sequences.size(); ++s) {
    const Sequence& sequence = sequences[s];
    DeviceState& out = state_out(sequence);
    const State* in = sequence.state_in;
    for (const Sequence& other : sequences) {
      if (in == nullptr || &other == &sequence || other.state_out != in) continue;
      for (const Sequence& reader : sequences) {
        if (&reader != &sequence && reader.state_in == &out)
          throw InputError("[metal] submit: sequences exchange their states; copy one of them first");
      }
      if (in != &out) out.assign(*in);
      in = &out;
    }
    SequenceInfo& info = sequence_infos(flight)[s];
    const auto& from = in == nullptr ? out : static_cast<const DeviceState&>(*in);
    info.in_place = in == nullptr ? STATE_FRESH : from.place().index;
    info.in_side = from.side();
    info.out_place = out.place().index;
    info.out_side = 1 - out.side();
    Range* last = ranges_.empty() ? nullptr : &ranges_.back();
    if (last == nullptr || last->in != from.place().buffer || last->out != out.place().buffer) {
      ranges_.push_back({from.place().buffer, out.place().buffer, {s, info.first_row}, 0, 0});
      last = &ranges_.back();
    }
    last->sequences += 1;
    last->rows += info.rows;
  }
}

// ---- replay

void DeviceProgram::Encoding::bind(uint32_t index, id<MTLBuffer> buffer, uint64_t offset) {
  Bound& now = bound_[index];
  if (now.buffer != buffer) {
    [encoder_ setBuffer:buffer offset:offset atIndex:index];
  } else if (now.offset != offset) {
    [encoder_ setBufferOffset:offset atIndex:index];
  }
  now = {buffer, offset};
}

void DeviceProgram::Encoding::bind(const Binding& binding) {
  const id<MTLBuffer> parameters = flight_.parameters.get();
  const Range& range = program_.ranges_.front();
  switch (binding.source) {
    case Source::Fixed:
      return bind(binding.index, binding.buffer, binding.offset);
    case Source::Submit:
      return bind(binding.index, parameters, 0);
    case Source::Sequences:
      return bind(binding.index, parameters, program_.sequences_offset());
    case Source::Rows:
      return bind(binding.index, parameters, program_.rows_offset());
    case Source::Bias:
      return bind(binding.index, flight_.bias.get(), 0);
    case Source::Results:
      return bind(binding.index, flight_.results.get(), 0);
    case Source::TableRows:
      return bind(binding.index, flight_.table_rows.get(), 0);
    case Source::Window:
      return bind(binding.index, program_.model_->stream->window(binding.window), binding.offset);
    case Source::StateIn:
      return bind(binding.index, range.in, 0);
    case Source::StateOut:
      return bind(binding.index, range.out, 0);
    case Source::Range:
      [encoder_ setBytes:&range.first length:sizeof(StateRange) atIndex:binding.index];
      return;
  }
}

void DeviceProgram::Encoding::add(const Dispatch& dispatch) {
  const Work& work = flight_.work;
  if (!has_work(dispatch, flight_)) return;
  if (concurrent_ && dispatch.after_all) [encoder_ memoryBarrierWithScope:MTLBarrierScopeBuffers];
  if (kernel_ != dispatch.kernel) [encoder_ setComputePipelineState:dispatch.kernel->pipeline.get()];
  kernel_ = dispatch.kernel;
  for (const Binding& binding : dispatch.bindings) bind(binding);
  // What is set stays set, and would be taken from kernels that declare memory of their own.
  if (threadgroup_bytes_ != dispatch.threadgroup_bytes) [encoder_ setThreadgroupMemoryLength:dispatch.threadgroup_bytes atIndex:0];
  threadgroup_bytes_ = dispatch.threadgroup_bytes;
  const auto go = [&](NSUInteger x, NSUInteger y) {
    [encoder_ dispatchThreadgroups:MTLSizeMake(x, y, 1) threadsPerThreadgroup:MTLSizeMake(dispatch.threads, 1, 1)];
  };
  switch (dispatch.grid) {
    case Grid::Rows:
      return go(work.rows, 1);
    case Grid::RowTiles:
      return go(dispatch.x, ceil_div(work.rows, dispatch.tile));
    case Grid::HeadRows:
      return go(work.head_rows, 1);
    case Grid::HeadTiles:
      return go(dispatch.x, ceil_div(work.head_rows, dispatch.tile));
    case Grid::Sequences:
      return go(dispatch.x, work.sequences);
    case Grid::Bias:
      return go(ceil_div(work.bias, dispatch.x), 1);
    case Grid::Once:
      return go(dispatch.x, 1);
    case Grid::RangeRows:
    case Grid::RangeSequences:
      for (size_t i = 0; i < program_.ranges_.size(); ++i) {
        const Range& range = program_.ranges_[i];
        if (i != 0) {
          bind(BUFFER_STATE_IN, range.in, 0);
          bind(BUFFER_STATE_OUT, range.out, 0);
          [encoder_ setBytes:&range.first length:sizeof(StateRange) atIndex:BUFFER_RANGE];
        }
        dispatch.grid == Grid::RangeRows ? go(range.rows, dispatch.x) : go(dispatch.x, range.sequences);
      }
      return;
  }
}

DeviceProgram::Flight& DeviceProgram::free_flight() {
  const auto free = std::find_if(flights_.begin(), flights_.end(), [](const Flight& f) { return f.ticket == 0; });
  if (free == flights_.end())
    throw InputError(message("[metal] submit: ", flights_.size(), " tickets are open already; wait for one first"));
  return *free;
}

void DeviceProgram::submitted(std::span<const Sequence> sequences) {
  for (const Sequence& sequence : sequences) state_out(sequence).flip();
  has_choice_ = has_choice_ || shape_.readout == Readout::Argmax;
}

// Dispatches into an encoder; where it is of one only, that is its name.
void DeviceProgram::encode(const CommandBuffer& commands, size_t begin, size_t end, const Flight& flight) const {
  const Dispatch& first = compiled_.dispatches[begin];
  if (end - begin == 1 && !has_work(first, flight)) return;
  id<MTLComputeCommandEncoder> encoder = [commands.get() computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
  if (encoder == nil)
    throw DeviceError(message("[metal] ", model_->device->info().name, ": it gives no compute encoder"));
  if (end - begin == 1) {
    const std::string layer = first.layer < 0 ? std::string() : message(" of layer ", first.layer);
    [encoder setLabel:ns_string(message(first.label, layer, ", kernel ", first.kernel->name))];
  }
  Encoding encoding(*this, flight, encoder, true);
  for (size_t i = begin; i < end; ++i) encoding.add(compiled_.dispatches[i]);
  [encoder endEncoding];
}

Ticket DeviceProgram::submit(std::span<const Sequence> sequences) {
  Flight& flight = free_flight();
  const Device& device = *model_->device;
  check(sequences);
  prepare(sequences, flight);
  flight.commands.clear();
  flight.commands.reserve(std::max<size_t>(1, compiled_.runs.size()));
  try {
    for (const Run& run : compiled_.runs) {
      if (run.unit != kNoUnit) model_->stream->bring(run.unit, run.next);
      @autoreleasepool {
        CommandBuffer commands = device.create_command_buffer("program");
        const size_t at_once = device.options().trace ? 1 : run.end - run.begin;
        for (size_t i = run.begin; i < run.end; i += at_once) encode(commands, i, i + at_once, flight);
        if (run.unit != kNoUnit) model_->stream->used_by(run.unit, commands);
        device.commit(commands);
        flight.commands.push_back(std::move(commands));
      }
    }
  } catch (...) {
    // What was begun reads the flight's memory, which the next submit writes, and the program's, which may go now.
    for (const CommandBuffer& commands : flight.commands) device.finish(commands);
    flight.commands.clear();
    throw;
  }
  submitted(sequences);
  flight.ticket = ++last_ticket_;
  return flight.ticket;
}

Result DeviceProgram::wait(Ticket ticket) {
  const auto found =
      std::find_if(flights_.begin(), flights_.end(), [&](const Flight& f) { return f.ticket == ticket; });
  if (ticket == 0 || found == flights_.end())
    throw InputError(message("[metal] wait: ticket ", ticket, " is not open"));
  found->ticket = 0;
  std::string first;  // an error of the device, of the first commands that had one
  for (const CommandBuffer& commands : found->commands) {
    const std::string error = model_->device->finish(commands);
    if (first.empty()) first = error;
  }
  if (!first.empty()) throw DeviceError(first);
  return unpack(*found);
}

Result DeviceProgram::unpack(Flight& flight) {
  Result result;
  const Work& work = flight.work;
  const std::byte* memory = compiled_.result_bytes == 0 ? nullptr : flight.results.contents();
  const auto* floats = reinterpret_cast<const float*>(memory);
  switch (shape_.readout) {
    case Readout::None:
    case Readout::Draw:  // refused by compile.mm
      break;
    case Readout::LastLogits:
    case Readout::AllLogits:
      result.values = {floats, size_t{work.head_rows} * model_->plan->n_vocab};
      break;
    case Readout::Hidden:
      result.values = {floats, size_t{work.head_rows} * model_->plan->n_embd};
      break;
    case Readout::Argmax:
      result.tokens = {reinterpret_cast<const int32_t*>(memory), work.sequences};
      if (compiled_.table_row_bytes != 0) chosen_.assign(result.tokens.begin(), result.tokens.end());
      break;
    case Readout::Candidates: {
      const uint32_t k = std::min(shape_.candidates, model_->plan->n_vocab);
      flight.candidates.reset(work.sequences, k);
      for (uint32_t s = 0; s < work.sequences; ++s) {
        if (compiled_.candidates_on_host) {
          const uint32_t n_vocab = model_->plan->n_vocab;
          flight.candidates.from_logits(s, {floats + size_t{s} * n_vocab, n_vocab});
        } else {
          flight.candidates.from_device(s, reinterpret_cast<const uint32_t*>(memory) + size_t{s} * (1 + k) * 2);
        }
      }
      result.candidates = flight.candidates.lists();
      break;
    }
  }
  return result;
}

// ---- for tests of single ops

void DeviceProgram::write_slot(SlotId slot, std::span<const float> values) {
  const SlotPlace& place = compiled_.slots.at(static_cast<size_t>(slot));
  const size_t rows = values.size() / place.width;
  if (rows * place.width != values.size() || rows > place.rows) {
    throw InputError(message("[metal] write_slot: expected up to ", place.rows, " rows of ", place.width,
                             " values, got ", values.size(), " values"));
  }
  model_->device->wait_idle();
  auto* to = reinterpret_cast<float*>(compiled_.activations.contents()) + place.offset;
  for (size_t row = 0; row < rows; ++row)
    std::copy_n(values.data() + row * place.width, place.width, to + row * place.stride);
}

void DeviceProgram::read_slot(SlotId slot, std::span<float> values) const {
  const SlotPlace& place = compiled_.slots.at(static_cast<size_t>(slot));
  const size_t rows = values.size() / place.width;
  if (rows * place.width != values.size() || rows > place.rows) {
    throw InputError(message("[metal] read_slot: expected up to ", place.rows, " rows of ", place.width,
                             " values, got room for ", values.size(), " values"));
  }
  model_->device->wait_idle();
  const auto* from = reinterpret_cast<const float*>(compiled_.activations.contents()) + place.offset;
  for (size_t row = 0; row < rows; ++row)
    std::copy_n(from + row * place.stride, place.width, values.data() + row * place.width);
}

}  // namespace rwkvnative::metal
