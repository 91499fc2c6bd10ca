// Timing every dispatch of a program.
#include <algorithm>

#include <chrono>

#include "core/error.h"
#include "metal/program.h"

namespace rwkvnative::metal {
namespace {

constexpr size_t kPerBuffer = 2048;  // dispatches whose two samples one sample buffer of 32 KiB holds

// The device's timestamps, if it can take them where an encoder begins and ends (Apple GPUs: yes; between dispatches:
// no).
id<MTLCounterSet> timestamp_counters(id<MTLDevice> device) {
  if (![device supportsCounterSampling:MTLCounterSamplingPointAtStageBoundary]) return nil;
  for (id<MTLCounterSet> set in [device counterSets]) {
    if ([[set name] isEqualToString:MTLCommonCounterSetTimestamp]) return set;
  }
  return nil;
}

}  // namespace

OpTimes DeviceProgram::profile(std::span<const Sequence> sequences) {
  Flight& flight = free_flight();
  check(sequences);
  prepare(sequences, flight);
  OpTimes times;
  const AutoreleasePool pool;
  id<MTLCounterSet> counters = timestamp_counters(model_->device->get());
  times.timestamps = counters != nil;
  const std::vector<double> microseconds =
      counters != nil ? timestamps(flight, counters, times.uploads) : one_by_one(flight, times.uploads);
  for (size_t i = 0; i < compiled_.dispatches.size(); ++i) {
    const Dispatch& dispatch = compiled_.dispatches[i];
    if (!has_work(dispatch, flight)) continue;
    const uint32_t rows = is_of_head(dispatch.grid) ? flight.work.head_rows : flight.work.rows;
    times.ops.push_back({.label = dispatch.label,
                         .layer = dispatch.layer,
                         .microseconds = microseconds[i],
                         .bytes = dispatch.cost.bytes(rows, flight.work.sequences),
                         .operations = dispatch.cost.row_operations * rows,
                         .arithmetic = dispatch.cost.arithmetic});
  }
  submitted(sequences);
  return times;
}

// Brings a streamed unit to where kernels read it, alone and timed.
void DeviceProgram::time_upload(const Run& run, std::vector<UploadTime>& uploads) const {
  using Clock = std::chrono::steady_clock;
  model_->stream->forget();
  const Clock::time_point start = Clock::now();
  model_->stream->bring(run.unit, kNoUnit);
  const std::chrono::duration<double, std::micro> time = Clock::now() - start;
  const Unit& about = model_->weights->units()[run.unit];
  uploads.push_back({.label = about.name, .bytes = about.bytes, .microseconds = time.count(), .first_op = run.begin});
}

// An encoder a dispatch, with a sample at its begin and its end; a run in one command buffer. The unit of samples is the
// device's own: the command buffer's begin and end, which are in seconds, give the scale.
std::vector<double> DeviceProgram::timestamps(const Flight& flight, id<MTLCounterSet> counters,
                                              std::vector<UploadTime>& uploads) const {
  const Device& device = *model_->device;
  const size_t n = compiled_.dispatches.size();
  std::vector<Owned<id<MTLCounterSampleBuffer>>> buffers;
  for (size_t first = 0; first < n; first += kPerBuffer) {
    const Owned<MTLCounterSampleBufferDescriptor*> descriptor([[MTLCounterSampleBufferDescriptor alloc] init]);
    [descriptor.get() setCounterSet:counters];
    [descriptor.get() setStorageMode:MTLStorageModeShared];
    [descriptor.get() setSampleCount:2 * std::min(kPerBuffer, n - first)];
    NSError* error = nil;
    buffers.emplace_back([device.get() newCounterSampleBufferWithDescriptor:descriptor.get() error:&error]);
    if (!buffers.back()) throw DeviceError(message("[metal] ", device.info().name, ": no timestamps: ", text(error)));
  }
  std::vector<double> seconds;  // of each run
  for (const Run& run : compiled_.runs) {
    if (run.unit != kNoUnit) time_upload(run, uploads);
    const CommandBuffer commands = device.create_command_buffer("profile");
    for (size_t i = run.begin; i < run.end; ++i) {
      if (!has_work(compiled_.dispatches[i], flight)) continue;
      MTLComputePassDescriptor* pass = [MTLComputePassDescriptor computePassDescriptor];
      MTLComputePassSampleBufferAttachmentDescriptor* samples =
          [[pass sampleBufferAttachments] objectAtIndexedSubscript:0];
      [samples setSampleBuffer:buffers[i / kPerBuffer].get()];
      [samples setStartOfEncoderSampleIndex:2 * (i % kPerBuffer)];
      [samples setEndOfEncoderSampleIndex:2 * (i % kPerBuffer) + 1];
      id<MTLComputeCommandEncoder> encoder = [commands.get() computeCommandEncoderWithDescriptor:pass];
      if (encoder == nil) throw DeviceError(message("[metal] ", device.info().name, ": it gives no compute encoder"));
      Encoding(*this, flight, encoder, false).add(compiled_.dispatches[i]);
      [encoder endEncoding];
    }
    device.commit(commands);
    device.wait(commands);
    seconds.push_back([commands.get() GPUEndTime] - [commands.get() GPUStartTime]);
  }

  std::vector<uint64_t> ticks;
  for (size_t b = 0; b < buffers.size(); ++b) {
    const size_t count = 2 * std::min(kPerBuffer, n - b * kPerBuffer);
    NSData* data = [buffers[b].get() resolveCounterRange:NSMakeRange(0, count)];
    if (data == nil || [data length] < count * sizeof(MTLCounterResultTimestamp))
      throw DeviceError(message("[metal] ", device.info().name, ": its timestamps cannot be read"));
    const auto* samples = static_cast<const MTLCounterResultTimestamp*>([data bytes]);
    for (size_t i = 0; i < count; ++i) ticks.push_back(samples[i].timestamp);
  }
  std::vector<double> microseconds;
  for (size_t r = 0; r < compiled_.runs.size(); ++r) {
    const Run& run = compiled_.runs[r];
    uint64_t first = UINT64_MAX, last = 0;
    for (size_t i = run.begin; i < run.end; ++i) {
      if (!has_work(compiled_.dispatches[i], flight)) continue;  // nothing was sampled
      first = std::min({first, ticks[2 * i], ticks[2 * i + 1]});
      last = std::max({last, ticks[2 * i], ticks[2 * i + 1]});
    }
    const double scale = last > first ? 1e6 * seconds[r] / static_cast<double>(last - first) : 0.0;
    for (size_t i = run.begin; i < run.end; ++i) {
      const uint64_t begin = ticks[2 * i], end = ticks[2 * i + 1];
      microseconds.push_back(end > begin && has_work(compiled_.dispatches[i], flight) ? scale * static_cast<double>(end - begin) : 0.0);
    }
  }
  return microseconds;
}

// A command buffer a dispatch: what that costs is on top of each.
std::vector<double> DeviceProgram::one_by_one(const Flight& flight, std::vector<UploadTime>& uploads) const {
  const Device& device = *model_->device;
  std::vector<double> microseconds;
  for (const Run& run : compiled_.runs) {
    if (run.unit != kNoUnit) time_upload(run, uploads);
    for (size_t i = run.begin; i < run.end; ++i) {
      const CommandBuffer commands = device.create_command_buffer("profile");
      id<MTLComputeCommandEncoder> encoder = [commands.get() computeCommandEncoder];
      if (encoder == nil) throw DeviceError(message("[metal] ", device.info().name, ": it gives no compute encoder"));
      Encoding(*this, flight, encoder, false).add(compiled_.dispatches[i]);
      [encoder endEncoding];
      device.commit(commands);
      device.wait(commands);
      microseconds.push_back(1e6 * ([commands.get() GPUEndTime] - [commands.get() GPUStartTime]));
    }
  }
  return microseconds;
}

}  // namespace rwkvnative::metal
