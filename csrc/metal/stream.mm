#include "metal/stream.h"

#include <algorithm>

#include "core/error.h"

namespace rwkvnative::metal {
namespace {

constexpr uint64_t kPatienceMs = 100;  // after which the commands are asked whether they failed

}  // namespace

WeightStream::WeightStream(const Device& device, const Plan& plan, const Weights& weights,
                           std::shared_ptr<const ModelFile> file)
    : device_(device),
      plan_(plan),
      weights_(weights),
      file_(std::move(file)),
      event_([device.get() newSharedEvent]),
      slots_(kSlots),
      windows_(weights.windows().size()) {
  if (!event_) throw DeviceError(message("[metal] ", device.info().name, ": it gives no shared event"));
  std::vector<uint64_t> largest(kSlots, 0);
  for (uint32_t u = 0; u < weights.units().size(); ++u) {
    const Unit& unit = weights.units()[u];
    if (!unit.streams()) continue;
    uint64_t bytes = 0;
    for (uint32_t window : weights.passing(u).windows) bytes += weights.windows()[window].bytes;
    largest[unit.slot] = std::max(largest[unit.slot], bytes);
  }
  for (uint32_t s = 0; s < kSlots; ++s) reserved_.push_back(device.reserve(message("pages for slot ", s), largest[s]));
}

WeightStream::~WeightStream() { device_.finish_all(); }

void WeightStream::bring(uint32_t unit, uint32_t next) {
  Slot& slot = slots_[weights_.units()[unit].slot];
  if (slot.unit != unit) {
    release(slot);
    fill(unit);
    slot.unit = unit;
  }
  if (!file_ || next == kNoUnit || slots_[weights_.units()[next].slot].unit == next) return;
  const Passing& passing = weights_.passing(next);
  for (const auto& range : passing.in_place) file_->will_need(range);
  for (const Passing::Packed& packed : passing.packed) file_->will_need(rows_of(plan_, packed));
}

// Waits until nothing reads the slot, and lets go of the file's pages.
void WeightStream::release(Slot& slot) {
  const AutoreleasePool pool;
  if (slot.user) {
    // Commands that failed may not signal; whoever waits for them says so.
    while (![event_.get() waitUntilSignaledValue:slot.reached timeoutMS:kPatienceMs]) {
      if ([slot.user.get() status] >= MTLCommandBufferStatusCompleted) break;
    }
    slot.user = {};
  }
  if (slot.unit == kNoUnit) return;
  const Passing& passing = weights_.passing(std::exchange(slot.unit, kNoUnit));
  for (uint32_t window : passing.windows) windows_[window] = {};
  if (!file_) return;
  for (const auto& range : passing.in_place) file_->dont_need(range);
}

void WeightStream::fill(uint32_t unit) {
  const Passing& passing = weights_.passing(unit);
  const Buffer& memory = weights_.slot(weights_.units()[unit].slot);
  for (const Passing::Packed& packed : passing.packed) {
    copy_rows(plan_.tensor(packed.tensor), packed.first_row, packed.rows, memory.contents() + packed.offset);
    if (file_) file_->dont_need(rows_of(plan_, packed));
  }
  for (uint32_t window : passing.windows) {
    const Window& pages = weights_.windows()[window];
    windows_[window] = device_.wrap(weights_.units()[unit].name, pages.pages, pages.bytes, true);
    if (windows_[window]) continue;
    for (uint32_t made : passing.windows) windows_[made] = {};
    throw DeviceError(message("[metal] ", device_.info().name, ": ", weights_.units()[unit].name,
                                    ": the device does not take ", pages.bytes, " bytes of the model file as memory"));
  }
  // In memory before the GPU asks for them, and while it works on something else.
  if (!file_) return;
  for (const auto& range : passing.in_place) file_->fetch(range);
}

void WeightStream::used_by(uint32_t unit, const CommandBuffer& commands) {
  Slot& slot = slots_[weights_.units()[unit].slot];
  slot.reached = ++last_value_;
  slot.user = CommandBuffer::retained(commands.get());
  [commands.get() encodeSignalEvent:event_.get() value:slot.reached];
}

void WeightStream::forget() {
  for (Slot& slot : slots_) release(slot);
}

}  // namespace rwkvnative::metal
