// A Plan compiled for the CPU: a list of steps that all workers walk through together.
#pragma once

#include <chrono>
#include <functional>
#include <vector>

#include "cpu/model.h"

namespace rwkvnative::cpu {

class CpuProgram final : public Program {
 public:
  CpuProgram(CpuModel& model, const Shape& shape);
  Ticket submit(std::span<const Sequence> sequences) override;
  Result wait(Ticket ticket) override;
  uint64_t scratch_bytes() const override { return normed_.bytes() + normed_blocks_.bytes(); }
  OpTimes profile(std::span<const Sequence> sequences) override;
  void write_slot(SlotId slot, std::span<const float> values) override;
  void read_slot(SlotId slot, std::span<float> values) const override;

 private:
  using Worker = ThreadPool::Worker;
  using Step = std::function<void(Worker&)>;

  // A matrix and where its products go.
  struct Product {
    const Tensor* weight;
    const float* in;
    size_t in_stride;
    const Int8Block* in_blocks;  // null: the product is taken in float32
    float* out;
    size_t out_stride;
    Activation activation;
    bool accumulate;
  };
  struct Task {  // some rows of one matrix
    uint32_t product, begin, end;
  };
  // Matrices that run side by side. A matrix is cut into chunks for few tokens, runs of rows of about equal bytes, and into
  // tiles of kTileRows rows for many.
  struct ProductGroup {
    std::vector<Product> products;
    // Of those matrices whose products are taken in int8, and of the others.
    struct Tasks {
      std::vector<Task> chunks, tiles;
    } int8, f32;
  };
  struct SequenceRows {
    uint32_t begin, end;
    const CpuState* state_in;  // null: fresh
    CpuState* state_out;
    std::span<const int32_t> bias_ids;
    std::span<const float> bias_values;
  };

  Step paged(size_t op, Step step) const;
  Step embed(const EmbedOp& op);
  Step shift_mix(const ShiftMixOp& op);
  Step linear(const LinearOp& op);
  Step wkv7(const Wkv7Op& op);
  Step head(const HeadOp& op);

  ProductGroup group(std::vector<Product> products) const;
  Product product(TensorId weight, SlotId in, SlotId out, Activation activation, bool accumulate) const;
  void quantize_inputs(Worker& worker, const ProductGroup& group, uint32_t rows) const;
  void multiply(Worker& worker, const ProductGroup& group, uint32_t rows) const;
  void multiply_chunk(Worker& worker, const Product& product, const Task& task, uint32_t rows) const;
  static std::span<const std::byte> bytes_of(const ProductGroup& group, const Task& task);
  void pack_tile(Worker& worker, const Product& product, const Task& task) const;
  void multiply_tile(Worker& worker, const Product& product, const Task& task, uint32_t rows,
                     std::span<const std::byte> ahead) const;
  void finish(const Product& product, uint32_t begin, uint32_t count, uint32_t row, const float* values) const;
  const float* state_in(const SequenceRows& sequence, uint32_t layer, uint32_t part) const;
  void choose(uint32_t sequence);  // from its logits
  void reserve_head(size_t rows);
  void read_out();

  const float* weights(TensorId id) const { return reinterpret_cast<const float*>(plan_.tensor(id).data); }
  Workspace::SlotBuffer& slot(SlotId id) const { return workspace_.slots[static_cast<size_t>(id)]; }

  CpuModel& model_;
  const Plan& plan_;
  Workspace& workspace_;
  const Kernels& kernels_;
  const Shape shape_;
  std::vector<Step> steps_;
  std::function<void(Worker&)> all_steps_;
  std::vector<std::chrono::steady_clock::time_point>* marks_ = nullptr;  // of profile(): the start, and the end of each step
  ProductGroup head_group_;

  // Of the submit in progress.
  std::vector<int32_t> tokens_;
  std::vector<SequenceRows> sequences_;
  std::vector<uint32_t> sequence_of_row_;
  std::vector<uint32_t> head_rows_;  // rows whose logits are asked for

  Ticket ticket_ = 0;
  Buffer<float> normed_;  // [head rows][n_embd]
  Buffer<Int8Block> normed_blocks_;
  std::vector<int32_t> argmax_;
  std::vector<int32_t> candidate_ids_;
  std::vector<float> candidate_logits_, log_sum_exps_;
  Result result_;
};

}  // namespace rwkvnative::cpu
