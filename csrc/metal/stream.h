// Brings streamed units where kernels read them, two at a time: while the GPU works on one, the host packs the rows of the
// next into the other slot, and asks for the file's pages that are read in place.
//
// The GPU says when it is done with a unit by an event. Nothing tells the GPU: what uses a unit is committed once the unit is
// there, and the GPU has the unit before to work on meanwhile.
//
// A command buffer makes all pages of each of its buffers resident. So streamed pages of the file are wrapped one unit at a
// time, and unwrapped once that has been computed: what the system then does with them, it is free to do.
#pragma once

#include <memory>
#include <vector>

#include "core/model_file.h"
#include "metal/weights.h"

namespace rwkvnative::metal {

class WeightStream {
 public:
  // file: that the plan's tensors lie in; null where they are just memory. The others must outlive this.
  WeightStream(const Device& device, const Plan& plan, const Weights& weights, std::shared_ptr<const ModelFile> file);
  ~WeightStream();

  // Blocks until `unit` is in its slot. `next`, or kNoUnit, is what will be wanted then. Throws DeviceError.
  void bring(uint32_t unit, uint32_t next);
  // The buffer of a window of a unit that was brought.
  id<MTLBuffer> window(uint32_t window) const { return windows_.at(window).get(); }
  // To be called with the commands that use `unit`, just before they are committed.
  void used_by(uint32_t unit, const CommandBuffer& commands);
  // Empties the slots, so that every unit is brought anew: for timing.
  void forget();

 private:
  struct Slot {
    uint32_t unit = kNoUnit;
    CommandBuffer user;   // the last one that reads the slot
    uint64_t reached = 0;  // the event's value when it is done
  };
  void release(Slot& slot);
  void fill(uint32_t unit);

  const Device& device_;
  const Plan& plan_;
  const Weights& weights_;
  std::shared_ptr<const ModelFile> file_;
  Owned<id<MTLSharedEvent>> event_;
  uint64_t last_value_ = 0;
  std::vector<Slot> slots_;
  // For the windows of any unit: with a step half done it is too late to find that there is no room.
  std::vector<MemoryLease> reserved_;
  std::vector<Buffer> windows_;  // empty but for units in a slot
};

}  // namespace rwkvnative::metal
