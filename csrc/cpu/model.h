// A Plan on the CPU: weights stay where the file has them, one workspace serves every Program, states are plain arrays.
#pragma once

#include <cstring>
#include <memory>
#include <new>

#include "core/backend.h"
#include "cpu/kernels.h"
#include "cpu/options.h"
#include "cpu/pages.h"
#include "cpu/thread_pool.h"

namespace rwkvnative::cpu {

// Memory for n values, aligned to a cache line, not touched before its first use.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t n) : size_(n), data_(static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64}))) {}
  T* data() const { return data_.get(); }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t{64}); }
  };
  size_t size_ = 0;
  std::unique_ptr<T, Free> data_;
};

// In memory as the core's layout, but with wkv as [head][key][value]: the kernels' lanes run over values.
class CpuState final : public State {
 public:
  explicit CpuState(const Plan& plan);
  std::unique_ptr<State> clone() const override;
  void assign(const State& other) override { values_ = static_cast<const CpuState&>(other).values_; }
  void read(std::span<float> out) const override;
  void write(std::span<const float> in) override;

  float* part(uint32_t layer, uint32_t part) { return values_.data() + offset(layer, part); }
  const float* part(uint32_t layer, uint32_t part) const { return values_.data() + offset(layer, part); }

 private:
  size_t offset(uint32_t layer, uint32_t part) const {
    return layer * plan_.state_values_per_layer() + plan_.state_part_offset(part);
  }
  void transpose_heads(std::span<float> values) const;
  const Plan& plan_;
  std::vector<float> values_;
};

// What the ops of one submit read and write. Slots have `rows` rows at a stride of their width rounded up to 16.
struct Workspace {
  Workspace(const Plan& plan, uint32_t rows, uint32_t workers, Numerics numerics, const Kernels& kernels);

  struct SlotBuffer {
    uint32_t stride = 0;
    Buffer<float> values;
    Buffer<Int8Block> blocks;  // empty unless a quantized matrix reads the slot
  };
  struct Scratch {  // of one worker
    Buffer<std::byte> tile;
    Buffer<float> decoded;  // a row
    Buffer<float> products;
  };
  uint32_t rows;
  std::vector<SlotBuffer> slots;
  std::vector<Scratch> scratch;
  Buffer<float> h, previous;  // ShiftMix: [rows][n_embd] each
  Buffer<float> lora[4];      // wkv7: the second LoRA matrices' outputs, [rows][n_embd] each
  Buffer<float> logits;       // grown on demand
  Buffer<float> zero_state;   // one layer's share of a fresh state

  size_t bytes() const;
};

class CpuModel final : public LoadedModel {
 public:
  CpuModel(const Plan& plan, const LoadOptions& options, ThreadPool& pool, const Kernels& kernels, const Tuning& tuning);
  std::unique_ptr<State> create_state() override { return std::make_unique<CpuState>(plan); }
  std::unique_ptr<Program> compile(const Shape& shape) override;
  uint32_t prefill_rows() const override { return prefill_rows_; }
  uint32_t logits_rows() const override;
  uint64_t device_bytes() const override { return 0; }
  uint64_t scratch_bytes() const override { return workspace.bytes(); }
  MemoryUse memory() const override;
  bool reads_file() const override { return true; }
  void use_tuning() override;
  std::vector<uint32_t> prefill_choices() const override;

  // Whether a matrix meets its input as int8.
  bool uses_int8(const Tensor& weight) const { return numerics == Numerics::Int8 && traits(weight.type).block_values > 1; }

  const Plan& plan;
  ThreadPool& pool;
  const Kernels& kernels;
  const Numerics numerics;
  Workspace workspace;
  std::unique_ptr<const Pages> pages;  // null: the system decides what of the file is in memory

 private:
  uint64_t workspace_bytes(uint32_t rows) const;

  const Tuning& tuning_;  // the backend's
  uint32_t prefill_rows_;
};

}  // namespace rwkvnative::cpu
