#include "webgpu/stream.h"

#include <algorithm>
#include <new>

#include "core/error.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint64_t kPage = 4096;

}  // namespace

WeightStream::WeightStream(const Device& device, const Plan& plan, const Weights& weights, uint64_t staging_bytes,
                           const std::function<void(uint64_t, uint64_t)>& progress)
    : device_(device),
      plan_(plan),
      weights_(weights),
      sources_(weights.units().size()),
      held_(kSlots, kNoUnit),
      staging_(device, staging_bytes) {
  uint64_t total = 0, done = 0;
  for (const WeightGroup* group : weights.each_group()) {
    if (group->unit == kNoUnit || !weights.units()[group->unit].streams()) continue;
    sources_[group->unit].groups.push_back(group);
    total += group->bytes;
  }
  // A quarter of what is free is left to others, the file's own pages among them.
  uint64_t room = std::min(device.options().host_cache, HostMemory::available() / 4 * 3);
  const uint64_t alignment = std::max(kPage, device.host_alignment());
  for (uint32_t u = 0; u < sources_.size(); ++u) {
    Source& source = sources_[u];
    const Unit& unit = weights.units()[u];
    if (source.groups.empty() || unit.bytes + alignment > room) continue;
    try {
      source.packed = std::make_shared<HostMemory>(unit.bytes, alignment);
    } catch (const std::bad_alloc&) {
      break;
    }
    room -= source.packed->size();
    host_bytes_ += source.packed->size();
    for (const WeightGroup* group : source.groups) {
      pack_group(plan, *group, source.packed->data() + group->offset);
      done += group->bytes;
      if (progress) progress(done, total);
    }
    if (device.host_alignment() == 0) continue;
    try {
      source.imported = device.import_host(unit.name, source.packed, WGPUBufferUsage_CopySrc | WGPUBufferUsage_Storage);
    } catch (const OutOfDeviceMemory&) {
      // The driver pins no more; the rest goes through staging.
    }
  }
  // Now, not in the middle of a token, which could not be done again.
  uint64_t row_bytes = 0;
  bool stages = false;
  for (const Source& source : sources_) {
    if (source.groups.empty() || source.imported) continue;
    stages = true;
    for (const WeightGroup* group : source.groups)
      for (const PlacedRows& rows : group->rows) row_bytes = std::max(row_bytes, uint64_t{rows.row_vec4s} * 16);
  }
  if (stages) staging_.reserve(row_bytes);
}

WeightStream::~WeightStream() {
  if (host_bytes_ == 0) return;
  try {
    device_.wait_idle();
  } catch (const DeviceError&) {
    // A lost device reads nothing any more.
  }
}

void WeightStream::before(uint32_t unit, uint32_t next, EncoderHandle& encoder) {
  if (!is_there(unit)) sources_[unit].imported ? copy(unit, encoder.get()) : stage(unit, encoder);
  // Ahead of the kernels that read `unit`, so that a device that can will do both at once.
  if (next != kNoUnit && !is_there(next) && sources_[next].imported) copy(next, encoder.get());
}

bool WeightStream::carry(const Carry& share) {
  uint32_t& held = held_[weights_.units()[share.unit].slot];
  if (share.first) {
    carrying_ = held != share.unit;
    if (carrying_) held = kNoUnit;
  }
  const bool copies = carrying_;
  if (share.last && carrying_) {
    held = share.unit;
    carrying_ = false;
  }
  return copies;
}

void WeightStream::after(uint32_t next, EncoderHandle& encoder) {
  if (next != kNoUnit && !is_there(next)) stage(next, encoder);
}

void WeightStream::copy(uint32_t unit, WGPUCommandEncoder encoder) {
  const Source& source = sources_[unit];
  dawn().CommandEncoderCopyBufferToBuffer(encoder, source.imported.get(), 0, weights_.buffer(*source.groups.front()), 0,
                                          weights_.units()[unit].bytes);
  held_[weights_.units()[unit].slot] = unit;
}

// The device works on what is encoded so far while the host fills the staging buffers.
void WeightStream::stage(uint32_t unit, EncoderHandle& encoder) {
  device_.submit(std::move(encoder));
  encoder = device_.create_encoder("program, after an upload");
  const Source& source = sources_[unit];
  uint32_t& held = held_[weights_.units()[unit].slot];
  held = kNoUnit;  // until all of it is on its way
  if (source.packed) {
    staging_.upload({source.packed->data(), weights_.units()[unit].bytes}, weights_.buffer(*source.groups.front()), 0);
  } else {
    for (const WeightGroup* group : source.groups) staging_.upload(plan_, *group, weights_.buffer(*group), group->offset);
  }
  held = unit;
}

}  // namespace rwkvnative::webgpu
