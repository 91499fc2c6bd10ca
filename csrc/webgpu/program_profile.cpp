// Timing every dispatch of a program.
#include <algorithm>
#include <chrono>

#include "core/error.h"
#include "webgpu/program.h"
#include "webgpu/watchdog.h"

namespace rwkvnative::webgpu {

// Brings a streamed unit to the device, alone and timed.
void DeviceProgram::time_upload(uint32_t unit, size_t first_op, EncoderHandle& encoder, std::vector<UploadTime>& uploads) {
  using Clock = std::chrono::steady_clock;
  const Device& device = *model_->device;
  device.submit(std::move(encoder));
  model_->stream->forget();
  device.wait_idle();
  const Clock::time_point start = Clock::now();
  encoder = device.create_encoder("upload");
  model_->stream->before(unit, kNoUnit, encoder);
  device.submit(std::move(encoder));
  device.wait_idle();
  const std::chrono::duration<double, std::micro> time = Clock::now() - start;
  const Unit& about = model_->weights->units()[unit];
  uploads.push_back({.label = about.name, .bytes = about.bytes, .microseconds = time.count(), .first_op = first_op});
  encoder = device.create_encoder("profile");
}

// Every run's unit in turn, without a wait between them.
double DeviceProgram::time_uploads() const {
  using Clock = std::chrono::steady_clock;
  if (compiled_.runs.empty()) return 0;
  const Device& device = *model_->device;
  model_->stream->forget();
  device.wait_idle();
  const Clock::time_point start = Clock::now();
  EncoderHandle encoder = device.create_encoder("uploads");
  double seconds = 0;
  for (const Run& run : compiled_.runs) {
    if (run.unit == kNoUnit) continue;
    seconds += slow_upload_seconds(model_->weights->units()[run.unit].bytes);
    if (seconds > most_seconds(device)) {
      device.submit(std::move(encoder));
      encoder = device.create_encoder("uploads");
      seconds = 0;
    }
    model_->stream->before(run.unit, kNoUnit, encoder);
  }
  device.submit(std::move(encoder));
  device.wait_idle();
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

OpTimes DeviceProgram::profile(std::span<const Sequence> sequences) {
  const auto lock = model_->states->lock();
  const Work work = prepare(sequences);
  const bool timestamps_work = model_->device->timestamps();
  std::vector<UploadTime> uploads;
  const std::vector<double> microseconds = timestamps_work ? timestamps(sequences, work, uploads) : wall_clock(sequences, work, uploads);
  states_submitted(sequences);
  has_choice_ = has_choice_ || chooses();
  OpTimes times{.ops = {}, .uploads = std::move(uploads), .upload_microseconds = time_uploads(), .timestamps = timestamps_work};
  for (size_t i = 0; i < compiled_.dispatches.size(); ++i) {
    const Dispatch& dispatch = compiled_.dispatches[i];
    if (dispatch.grid == Grid::Bias && work.bias == 0) continue;
    const uint32_t rows = is_of_head(dispatch.grid) ? work.head_rows : work.rows;
    times.ops.push_back({.label = dispatch.label,
                         .layer = dispatch.layer,
                         .microseconds = microseconds[i],
                         .bytes = dispatch.cost.bytes(rows, work.sequences),
                         .operations = dispatch.cost.row_operations * rows,
                         .arithmetic = dispatch.cost.arithmetic});
  }
  return times;
}

std::vector<double> DeviceProgram::timestamps(std::span<const Sequence> sequences, const Work& work,
                                              std::vector<UploadTime>& uploads) {
  const Device& device = *model_->device;
  constexpr uint32_t kPerSet = 2048;
  const size_t n = compiled_.dispatches.size();
  std::vector<QuerySetHandle> sets;
  for (size_t i = 0; i * kPerSet < n; ++i) {
    WGPUQuerySetDescriptor descriptor{};
    descriptor.type = WGPUQueryType_Timestamp;
    descriptor.count = 2 * kPerSet;
    sets.emplace_back(dawn().DeviceCreateQuerySet(device.get(), &descriptor));
  }
  const Buffer resolved = device.create_buffer("timestamps", sets.size() * 2 * kPerSet * 8,
                                               WGPUBufferUsage_QueryResolve | WGPUBufferUsage_CopySrc);
  EncoderHandle encoder = device.create_encoder("profile");
  encode_states(encoder.get(), sequences);
  for (size_t i = 0, begin = 0; i < n; ++i) {  // begin: the first dispatch of a submit
    const uint32_t unit = compiled_.dispatches[i].unit;
    if (unit != kNoUnit && (i == 0 || compiled_.dispatches[i - 1].unit != unit)) {
      time_upload(unit, i, encoder, uploads);
      begin = i;
    } else if (i != begin && end_of_submit(begin, i + 1, work) == i) {
      device.submit(std::move(encoder));
      encoder = device.create_encoder("profile");
      begin = i;
    }
    WGPUPassTimestampWrites writes{};
    writes.querySet = sets[i / kPerSet].get();
    writes.beginningOfPassWriteIndex = static_cast<uint32_t>(2 * (i % kPerSet));
    writes.endOfPassWriteIndex = writes.beginningOfPassWriteIndex + 1;
    WGPUComputePassDescriptor descriptor{};
    descriptor.timestampWrites = &writes;
    const PassHandle pass(dawn().CommandEncoderBeginComputePass(encoder.get(), &descriptor));
    encode(pass.get(), compiled_.dispatches[i], sequences, work);
    dawn().ComputePassEncoderEnd(pass.get());
  }
  for (size_t i = 0; i < sets.size(); ++i) {
    const uint32_t count = static_cast<uint32_t>(std::min<size_t>(kPerSet, n - i * kPerSet)) * 2;
    dawn().CommandEncoderResolveQuerySet(encoder.get(), sets[i].get(), 0, count, resolved.get(), i * 2 * kPerSet * 8);
  }
  device.submit(std::move(encoder));
  std::vector<uint64_t> ticks(sets.size() * 2 * kPerSet);
  device.read(resolved.get(), 0, std::as_writable_bytes(std::span(ticks)));
  std::vector<double> microseconds;
  for (size_t i = 0; i < n; ++i) {
    const uint64_t begin = ticks[2 * i], end = ticks[2 * i + 1];
    microseconds.push_back(end > begin ? 1e-3 * static_cast<double>(end - begin) : 0.0);
  }
  return microseconds;
}

// A submit costs more than most dispatches: each is repeated, and the time of a submit with one is taken off. Repeats of a
// dispatch see what it wrote itself: what is added to something is added again and again, and what remains in activations and
// states is not what a submit leaves.
std::vector<double> DeviceProgram::wall_clock(std::span<const Sequence> sequences, const Work& work,
                                              std::vector<UploadTime>& uploads) {
  using Clock = std::chrono::steady_clock;
  constexpr uint32_t kRepeats = 9;
  constexpr double kLong = 2000;  // microseconds, against which a submit does not count
  const Device& device = *model_->device;
  const auto run = [&](const Dispatch& dispatch, uint32_t repeats) {
    EncoderHandle encoder = device.create_encoder("profile");
    {
      WGPUComputePassDescriptor descriptor{};
      const PassHandle pass(dawn().CommandEncoderBeginComputePass(encoder.get(), &descriptor));
      for (uint32_t i = 0; i < repeats; ++i) encode(pass.get(), dispatch, sequences, work);
      dawn().ComputePassEncoderEnd(pass.get());
    }
    const Clock::time_point start = Clock::now();
    device.submit(std::move(encoder));
    device.wait_idle();
    return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
  };
  EncoderHandle encoder = device.create_encoder("profile");
  encode_states(encoder.get(), sequences);
  device.submit(std::move(encoder));
  device.wait_idle();
  std::vector<double> microseconds;
  for (size_t i = 0; i < compiled_.dispatches.size(); ++i) {
    const Dispatch& dispatch = compiled_.dispatches[i];
    if (dispatch.unit != kNoUnit && (i == 0 || compiled_.dispatches[i - 1].unit != dispatch.unit)) {
      encoder = device.create_encoder("profile");
      time_upload(dispatch.unit, i, encoder, uploads);
      device.submit(std::move(encoder));
    }
    const double one = run(dispatch, 1);
    const double many = one < kLong ? run(dispatch, kRepeats) : 0;
    microseconds.push_back(one < kLong ? std::max(0.0, (many - one) / (kRepeats - 1)) : one);
  }
  return microseconds;
}

}  // namespace rwkvnative::webgpu
