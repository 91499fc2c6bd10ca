#include "webgpu/sequence_table.h"

#include <algorithm>

#include "core/error.h"

namespace rwkvnative::webgpu {

SequenceTable::SequenceTable(std::shared_ptr<const LoadedParts> model, uint32_t most_sequences, bool covers_state)
    : model_(std::move(model)),
      section_bytes_((16 * most_sequences + 255) / 256 * 256),  // the largest alignment of a dynamic offset
      covers_state_(covers_state) {
  uses_.reserve(most_sequences);
  make_room(1);
}

void SequenceTable::make_room(size_t blocks) {
  const uint64_t bytes = blocks * section_bytes_;
  if (buffer_ && buffer_.size >= bytes) return;
  Buffer buffer = model_->device->create_buffer("sequences", bytes, WGPUBufferUsage_Storage | WGPUBufferUsage_CopyDst);
  constexpr uint32_t kNumber = 0;
  const Pipelines::Range range{buffer.get(), 0, section_bytes_};
  group_ = model_->pipelines->bind("sequences", model_->pipelines->sequences_layout(), std::span(&kNumber, 1),
                                   std::span(&range, 1));
  buffer_ = std::move(buffer);
  written_.clear();
}

// Whether the state is brought to its place before the kernels run, which then read it where they write it.
bool SequenceTable::copies(const Use& use) const {
  return use.in != nullptr && use.in != use.out && (!covers_state_ || use.in->slot().block != use.out->slot().block);
}

void SequenceTable::prepare(std::span<const Sequence> sequences, std::span<const Rows> rows) {
  uses_.clear();
  const uint64_t number = model_->states->next_submit();
  for (const Sequence& sequence : sequences) {
    Use use;
    use.out = static_cast<DeviceState*>(sequence.state_out);
    use.in = static_cast<const DeviceState*>(sequence.state_in);
    if (use.in != nullptr && use.in->fresh()) use.in = nullptr;
    if (!use.out->claim(number)) throw InputError("[webgpu] submit: two sequences write the same state");
    uses_.push_back(use);
  }
  for (const Use& use : uses_) {
    if (use.in != nullptr && use.in != use.out && use.in->is_written_by(number))
      throw InputError("[webgpu] submit: a sequence reads the state that another one writes");
  }
  blocks_.clear();
  for (Use& use : uses_) {
    const auto found = std::find(blocks_.begin(), blocks_.end(), use.out->slot().block);
    use.block = static_cast<uint32_t>(found - blocks_.begin());
    if (found == blocks_.end()) blocks_.push_back(use.out->slot().block);
  }
  make_room(blocks_.size());
  table_.assign(blocks_.size() * section_bytes_ / sizeof(uint32_t), 0u);
  for (size_t s = 0; s < uses_.size(); ++s) {
    const Use& use = uses_[s];
    const uint32_t to = use.out->slot().index;
    uint32_t from = to;
    if (use.in == nullptr && covers_state_) {
      from = kNoSlot;
    } else if (use.in != nullptr && use.in != use.out && !copies(use)) {
      from = use.in->slot().index;
    }
    uint32_t* entry = table_.data() + use.block * section_bytes_ / sizeof(uint32_t) + 4 * s;
    entry[0] = rows[s].first;
    entry[1] = rows[s].count;
    entry[2] = from;
    entry[3] = to;
  }
  if (table_ == written_) return;
  dawn().QueueWriteBuffer(model_->device->queue(), buffer_.get(), 0, table_.data(), table_.size() * sizeof(uint32_t));
  written_ = table_;
}

void SequenceTable::encode_copies(WGPUCommandEncoder encoder) const {
  StateArena& arena = *model_->states;
  for (const Use& use : uses_) {
    if (copies(use)) {
      arena.copy(encoder, use.in->slot(), use.out->slot());
    } else if (use.in == nullptr && !covers_state_) {
      arena.clear(encoder, use.out->slot());
    }
  }
}

void SequenceTable::bind(WGPUComputePassEncoder pass, size_t block, uint32_t layer) const {
  const auto offset = static_cast<uint32_t>(block * section_bytes_);
  dawn().ComputePassEncoderSetBindGroup(pass, 1, model_->states->block_group(blocks_[block], layer), 0, nullptr);
  dawn().ComputePassEncoderSetBindGroup(pass, 2, group_.get(), 1, &offset);
}

void SequenceTable::submitted() {
  for (const Use& use : uses_) use.out->set_written();
}

}  // namespace rwkvnative::webgpu
