// From a plan's ops to dispatches. One method per kind of op; the kernels they choose are in kernels/.
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <type_traits>

#include "metal/kernels/arguments.h"
#include "metal/program.h"

namespace rwkvnative::metal {

class Compiler {
 public:
  Compiler(const LoadedParts& model, const Shape& shape);
  Compiled run();

 private:
  // One matrix of a linear stage; slots by their number in Compiled::slots.
  struct Matrix {
    TensorId weight;
    size_t in, out;
    Activation activation = Activation::None;
    bool accumulate = false;
  };
  // Some of its rows, where they are.
  struct Rows {
    Matrix matrix;
    PlacedRows placed;
  };

  // compile.mm
  void allocate();
  size_t add_slot(uint32_t width, uint32_t rows);
  void add(const EmbedOp& op);
  void add(const ShiftMixOp& op);
  void add(const HeadOp& op);
  void add(const Wkv7Op& op);
  void add_shift_mix(const ShiftMixOp& op, std::span<const bool> wanted);
  // Decides whether the mixes of the op at op_index are halves: half_scales_ of their slots from here on.
  void choose_halves(const ShiftMixOp& op, size_t op_index);
  float half_scale(size_t slot) const { return half_scales_.empty() ? 0.0f : half_scales_.at(slot); }
  // with_loras: multiplies the second LoRA matrices too.
  void add_wkv7(const Wkv7Op& op, bool with_loras = false);
  std::vector<Matrix> second_loras(const Wkv7Op& op) const;
  // compile_linear.mm
  void add(const LinearOp& op);
  void add_linear(const std::string& label, std::span<const Matrix> matrices, bool of_head);
  // The ops op_index ... as fewer stages than one each or more; returns how many ops, 0 if they do not lend themselves to it.
  size_t add_fused(size_t op_index);
  bool can_mix(const ShiftMixOp& mix, const LinearOp& linear) const;
  bool in_wkv7(std::span<const Matrix> loras) const;
  void add_time_mix(const ShiftMixOp& mix, const LinearOp& linear, const Wkv7Op& wkv7);
  // The matrices on their mixed inputs. all: shift_mix is not there to keep the state.
  void add_mix_linear(const std::string& label, const ShiftMixOp& mix, std::span<const LinearPart> parts, bool all);
  void add_linear(const std::string& label, std::span<const Rows> rows, uint32_t rows_of_all, bool of_head);
  MatrixPart part(const Rows& rows, bool of_head) const;
  // compile_choice.mm
  void add_choice();
  void add_argmax();
  void add_candidates();

  bool one_token() const { return shape_.rows == 1; }
  bool all_rows() const { return shape_.readout == Readout::AllLogits; }
  uint32_t head_rows() const { return all_rows() ? shape_.rows : shape_.sequences; }
  bool wants_logits() const { return shape_.readout != Readout::None && shape_.readout != Readout::Hidden; }
  // Whether the head writes to a submit's results rather than to a slot.
  bool logits_are_results() const {
    return shape_.readout == Readout::LastLogits || all_rows() || compiled_.candidates_on_host;
  }
  const SlotPlace& slot(size_t id) const { return compiled_.slots.at(id); }
  const SlotPlace& slot(SlotId id) const { return compiled_.slots.at(static_cast<size_t>(id)); }
  uint32_t offset(const SlotPlace& place) const { return static_cast<uint32_t>(place.offset); }
  // A vector of the plan's width: F32, or throws.
  Binding vector(uint32_t index, TensorId id, uint32_t rows = 1);
  // The memory of placed rows, from `offset` on; the next dispatch then reads their unit.
  Binding weights(uint32_t index, const PlacedRows& placed, uint64_t offset = 0);
  Constants norm_constants(uint32_t width, float epsilon) const;

  // The next dispatch waits for all before it; later ones run beside it until the next call.
  void begin_stage() { stage_begins_ = true; }
  void make_runs();
  // A dispatch with its arguments; `bindings` lacks those. `threads`: of a threadgroup.
  template <class Arguments>
  Dispatch& dispatch(const std::string& label, const std::string& file, const std::string& function,
                     const Constants& constants, uint32_t threads, const Arguments& arguments,
                     std::vector<Binding> bindings) {
    static_assert(std::is_trivially_copyable_v<Arguments>);
    bindings.push_back({BUFFER_ARGUMENTS, Source::Fixed, nil, add_arguments(&arguments, sizeof arguments)});
    return add_dispatch(label, file, function, constants, threads, std::move(bindings));
  }
  uint64_t add_arguments(const void* bytes, size_t size);
  Dispatch& add_dispatch(const std::string& label, const std::string& file, const std::string& function,
                         const Constants& constants, uint32_t threads, std::vector<Binding> bindings);
  Binding act(uint32_t index) const { return {index, Source::Fixed, compiled_.activations.get(), 0}; }
  static Binding of_submit(uint32_t index, Source source) { return {index, source, nil, 0}; }

  const LoadedParts& model_;
  const Device& device_;
  const Tuning& tuning_;
  const Plan& plan_;
  const Shape& shape_;
  bool stage_begins_ = false;
  int32_t layer_ = -1;  // of the op that is being compiled
  uint32_t unit_ = kNoUnit;  // that the next dispatch reads
  Cost cost_;           // of the next dispatch, for the profiler
  size_t logits_slot_ = 0, hidden_slot_ = 0;
  std::vector<float> half_scales_;  // of each slot that holds halves now, else 0; empty: none ever does
  size_t lora_slots_ = 0;  // four in a row: w, a, v, g of Wkv7
  std::vector<std::byte> arguments_;
  Compiled compiled_;
};

inline uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }
// The file of kernels/ for matrices of the type.
std::string kernel_file(DType type);

}  // namespace rwkvnative::metal
