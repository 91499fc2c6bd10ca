// Brings streamed units into their slots. A unit is packed once into host memory, if there is room for it, and the device
// copies it from there over its link; where a device cannot read host memory, or there is no room, it goes through staging
// buffers, packed again each time if need be.
//
// All programs of a model go through one queue, so a copy into a slot waits for the kernels that read it before, and needs no
// other care.
#pragma once

#include <memory>
#include <vector>

#include "webgpu/carry.h"
#include "webgpu/staging.h"
#include "webgpu/weights.h"

namespace rwkvnative::webgpu {

class WeightStream {
 public:
  // Packs what there is room for. The arguments must outlive this.
  WeightStream(const Device& device, const Plan& plan, const Weights& weights, uint64_t staging_bytes,
               const std::function<void(uint64_t, uint64_t)>& progress);
  ~WeightStream();

  // After this, commands added to the encoder find `unit` in its slot. `next`, or kNoUnit, is what will be wanted then. The
  // encoder may be submitted and replaced.
  void before(uint32_t unit, uint32_t next, EncoderHandle& encoder);
  // To be called once the commands that use the unit are in the encoder: `next` may go to the device beside them.
  void after(uint32_t next, EncoderHandle& encoder);
  // Whether a dispatch that has this share of a unit is to copy it: not if the unit is in its slot already. To be called for all
  // shares in their order; then commands after the last of them find the unit there.
  bool carry(const Carry& share);
  // The rows of the embedding table as the device sees them in host memory, one behind the other; null if it does not, or has the
  // table itself.
  WGPUBuffer table() const { return table_.get(); }
  // Whether the file is read again while the model runs.
  bool reads_file() const;
  // `unit` as the device sees it in host memory; null if it does not.
  WGPUBuffer imported(uint32_t unit) const { return sources_[unit].imported.get(); }
  // To be called if an encoder that before() was given is not submitted.
  void forget() {
    held_.assign(kSlots, kNoUnit);
    carrying_ = false;
  }
  // Bytes of host memory in the device's layout.
  uint64_t host_bytes() const { return host_bytes_; }

 private:
  struct Source {
    std::vector<const WeightGroup*> groups;
    std::shared_ptr<const HostMemory> packed;  // null: packed from the file each time
    Buffer imported;                           // `packed` as the device sees it
  };
  bool is_there(uint32_t unit) const { return held_[weights_.units()[unit].slot] == unit; }
  // Memory of the host for `bytes` of a unit or the table, if `room` has them; else null.
  std::shared_ptr<HostMemory> host_memory(uint64_t bytes, uint64_t& room);
  Buffer import(const std::string& name, std::shared_ptr<const HostMemory> memory) const;
  void import_table(uint64_t& room);
  void copy(uint32_t unit, WGPUCommandEncoder encoder);
  void stage(uint32_t unit, EncoderHandle& encoder);

  const Device& device_;
  const Plan& plan_;
  const Weights& weights_;
  std::vector<Source> sources_;  // of each unit; empty for those that stay
  std::vector<uint32_t> held_;   // unit in each slot
  Buffer table_;
  bool carrying_ = false;        // a unit whose last share is yet to come
  uint64_t host_bytes_ = 0;
  Staging staging_;
};

}  // namespace rwkvnative::webgpu
