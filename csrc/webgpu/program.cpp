#include "webgpu/program.h"

#include <algorithm>

#include "core/error.h"
#include "webgpu/watchdog.h"

namespace rwkvnative::webgpu {
namespace {

constexpr size_t kFirstShare = 16;  // dispatches that are submitted before the rest is encoded

uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

}  // namespace

DeviceProgram::DeviceProgram(std::shared_ptr<const LoadedParts> model, const Shape& shape)
    : model_(std::move(model)), shape_(shape), compiled_(compile(*model_, shape_)) {
  const bool reads_back = shape.readout != Readout::None;
  // Where the host gathers the embedding rows it must know a token before it can begin the next. And where weights stream a token is
  // so long that one more is ahead enough, and each takes a state.
  const uint32_t in_flight = std::max(1u, model_->device->options().tuned.all.in_flight);
  flights_.resize(compiled_.table_rows ? 1 : model_->weights->streams() ? std::min(2u, in_flight) : in_flight);
  const uint32_t head_rows = shape.readout == Readout::AllLogits ? shape.rows : shape.sequences;
  for (Flight& flight : flights_) {
    if (!reads_back) continue;
    flight.readback = model_->device->create_buffer("results", result_bytes(shape.sequences, head_rows),
                                                    WGPUBufferUsage_MapRead | WGPUBufferUsage_CopyDst);
  }
  if (shape.rows != 1 || shape.sequences != 1) table_.emplace(model_, shape.sequences, compiled_.covers_state);
  for (const Dispatch& dispatch : compiled_.dispatches) slow_seconds_ += webgpu::slow_seconds(*model_->device, dispatch.cost, 1);
  params_.resize(4 * (1 + size_t{shape.sequences} + shape.rows));
}

DeviceProgram::~DeviceProgram() = default;

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

// Whether a state is read that is not the one that is written: that needs no memory to be written besides its own.
bool DeviceProgram::is_apart(const Sequence& sequence) {
  const auto* in = static_cast<const DeviceState*>(sequence.state_in);
  return in != nullptr && in != sequence.state_out && !in->fresh();
}

// The groups of a kernel that works on a part of one sequence's state.
void DeviceProgram::bind_one_state(WGPUComputePassEncoder pass, const Dispatch& dispatch, const Sequence& sequence) const {
  const StateArena& arena = *model_->states;
  const auto& out = *static_cast<const DeviceState*>(sequence.state_out);
  const auto* in = static_cast<const DeviceState*>(sequence.state_in);
  if (in == nullptr || in->fresh()) in = &out;  // it was cleared in place
  const StateArena::Slot& written = compiled_.reads_other_states && !is_apart(sequence) ? out.back() : out.slot();
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
    const uint32_t carriers = carries ? std::max(1u, dispatch.carry.threads / dispatch.kernel->carry_workgroup) : 0;
    const uint32_t carrying = carrying_layers(uint64_t{x} * y, carriers);
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

double DeviceProgram::slow_seconds(const Dispatch& dispatch, const Work& work) const {
  return webgpu::slow_seconds(*model_->device, dispatch.cost, is_of_head(dispatch.grid) ? work.head_rows : work.rows);
}

// The end of those dispatches from `begin` on, up to `end`, that may be one submit, behind what takes `before` seconds: at least one.
size_t DeviceProgram::end_of_submit(size_t begin, size_t end, const Work& work, double before) const {
  const double most = most_seconds(*model_->device);
  if (before + slow_seconds_ * std::max(work.rows, work.head_rows) <= most) return end;
  double seconds = before + slow_seconds(compiled_.dispatches[begin], work);
  for (size_t i = begin + 1; i < end; ++i) {
    seconds += slow_seconds(compiled_.dispatches[i], work);
    if (seconds > most) return i;
  }
  return end;
}

// A token's first dispatches are submitted while the rest is encoded: where nobody else keeps the device busy it has work
// after the first few, not after all of them.
void DeviceProgram::encode_whole(EncoderHandle& encoder, std::span<const Sequence> sequences, const Work& work) const {
  const Device& device = *model_->device;
  const bool idle = std::all_of(flights_.begin(), flights_.end(), [](const Flight& f) { return f.ticket == 0; });
  const size_t n = compiled_.dispatches.size();
  for (size_t begin = 0, share = kFirstShare; begin < n; share = std::min(4 * share, n)) {
    const size_t end = end_of_submit(begin, idle && n - begin > 2 * share ? begin + share : n, work);
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
  double seconds = 0;                         // of what is encoded, on a slow device
  const auto submit = [&](size_t end) {
    model_->device->submit(std::move(encoder));
    encoder = model_->device->create_encoder("program");
    submitted = end;
    seconds = 0;
  };
  try {
    for (const Run& run : compiled_.runs) {
      const uint32_t next = run.carries_next ? kNoUnit : run.next;
      const double upload = run.unit == kNoUnit ? 0 : slow_upload_seconds(model_->weights->units()[run.unit].bytes);
      double of_run = upload;
      for (size_t i = run.begin; i < run.end; ++i) of_run += slow_seconds(compiled_.dispatches[i], work);
      if (seconds != 0 && seconds + of_run > most_seconds(*model_->device)) submit(run.begin);
      seconds += upload;
      if (run.unit != kNoUnit) stream.before(run.unit, next, encoder);
      for (size_t begin = run.begin, end; begin < run.end; begin = end) {
        if (begin != run.begin) submit(begin);
        end = end_of_submit(begin, run.end, work, seconds);
        WGPUComputePassDescriptor descriptor{};
        const PassHandle pass(dawn().CommandEncoderBeginComputePass(encoder.get(), &descriptor));
        for (size_t i = begin; i < end; ++i) {
          const Dispatch& dispatch = compiled_.dispatches[i];
          encode(pass.get(), dispatch, sequences, work, dispatch.carry && stream.carry(dispatch.carry));
          seconds += slow_seconds(dispatch, work);
        }
        dawn().ComputePassEncoderEnd(pass.get());
      }
      if (run.unit != kNoUnit) stream.after(next, encoder);
      if (run.end - submitted < share || run.end == compiled_.dispatches.size()) continue;
      submit(run.end);
      share = std::min(4 * share, compiled_.dispatches.size());
    }
  } catch (...) {
    stream.forget();
    throw;
  }
}

void DeviceProgram::states_submitted(std::span<const Sequence> sequences) {
  if (table_) return table_->submitted();
  auto& out = *static_cast<DeviceState*>(sequences[0].state_out);
  compiled_.reads_other_states && !is_apart(sequences[0]) ? out.flip() : out.set_written();
}

uint64_t DeviceProgram::scratch_bytes() const {
  uint64_t bytes = compiled_.activations.buffer().size + compiled_.activations.halves().size;
  for (const Buffer* buffer : {&compiled_.params, &compiled_.tokens, &compiled_.entries, &compiled_.bias, &compiled_.table_rows,
                               &compiled_.sums, &compiled_.draws, &compiled_.intervals, &compiled_.history, &compiled_.used})
    bytes += buffer->size;
  for (const Buffer& table : compiled_.tables) bytes += table.size;
  if (table_) bytes += table_->device_bytes();
  for (const Flight& flight : flights_) bytes += flight.readback.size;
  return bytes;
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

void DeviceProgram::write_slot(SlotId slot, std::span<const float> values) {
  compiled_.activations.write(*model_->device, static_cast<size_t>(slot), values);
}

void DeviceProgram::read_slot(SlotId slot, std::span<float> values) const {
  compiled_.activations.read(*model_->device, static_cast<size_t>(slot), values);
}

}  // namespace rwkvnative::webgpu
