#include "webgpu/stream.h"

#include <algorithm>
#include <new>

#include "core/error.h"
#include "core/pack.h"

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
  for (uint32_t u = 0; u < sources_.size(); ++u) {
    Source& source = sources_[u];
    const Unit& unit = weights.units()[u];
    if (source.groups.empty()) continue;
    const std::shared_ptr<HostMemory> memory = host_memory(unit.bytes, room);
    if (!memory) continue;
    for (const WeightGroup* group : source.groups) {
      pack_group(plan, *group, memory->data() + group->offset);
      done += group->bytes;
      if (progress) progress(done, total);
    }
    source.packed = memory;
    source.imported = import(unit.name, memory);
  }
  if (weights.table_on_host()) import_table(room);
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

std::shared_ptr<HostMemory> WeightStream::host_memory(uint64_t bytes, uint64_t& room) {
  const uint64_t alignment = std::max(kPage, device_.host_alignment());
  if (bytes + alignment > room) return nullptr;
  try {
    auto memory = std::make_shared<HostMemory>(bytes, alignment);
    room -= memory->size();
    host_bytes_ += memory->size();
    return memory;
  } catch (const std::bad_alloc&) {
    room = 0;
    return nullptr;
  }
}

Buffer WeightStream::import(const std::string& name, std::shared_ptr<const HostMemory> memory) const {
  if (device_.host_alignment() == 0) return {};
  try {
    return device_.import_host(name, std::move(memory), WGPUBufferUsage_CopySrc | WGPUBufferUsage_Storage);
  } catch (const OutOfDeviceMemory&) {
    return {};  // the driver pins no more; the rest goes through staging
  }
}

// A token reads one row of it: too little to be worth memory of the device, and nothing that the host would have to wait for.
void WeightStream::import_table(uint64_t& room) {
  if (device_.host_alignment() == 0) return;
  const auto embed = std::find_if(plan_.ops.begin(), plan_.ops.end(), [](const Op& op) { return std::holds_alternative<EmbedOp>(op); });
  const TensorId id = std::get<EmbedOp>(*embed).table;
  const Tensor& table = plan_.tensor(id);
  const uint64_t row_bytes = packed_row_bytes(table.type, table.ne0);
  const std::shared_ptr<HostMemory> memory = host_memory(row_bytes * table.ne1, room);
  if (!memory) return;
  WeightGroup rows;
  rows.rows.push_back({id, 0, static_cast<uint32_t>(table.ne1), 0, static_cast<uint32_t>(row_bytes / 16)});
  pack_group(plan_, rows, memory->data());
  table_ = import("embedding table", memory);
  if (!table_) host_bytes_ -= memory->size();  // the host gathers rows from the file instead
}

bool WeightStream::reads_file() const {
  return (weights_.table_on_host() && !table_) ||
         std::any_of(sources_.begin(), sources_.end(), [](const Source& source) { return !source.groups.empty() && !source.packed; });
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
