// The recurrent state of one sequence in device memory.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

#include "core/backend.h"
#include "webgpu/state_arena.h"

namespace rwkvnative::webgpu {

class DeviceState final : public State {
 public:
  explicit DeviceState(std::shared_ptr<StateArena> arena);
  ~DeviceState() override;

  std::unique_ptr<State> clone() const override;
  void assign(const State& other) override;
  void read(std::span<float> out) const override;
  void write(std::span<const float> in) override;

  using Slot = StateArena::Slot;
  // The rest is for programs, which hold the arena's lock from the first call to the submit.
  const StateArena* arena() const { return arena_.get(); }
  // Nothing was written yet: the values are zeros, whatever the memory holds.
  bool fresh() const { return fresh_; }
  void set_written() { fresh_ = false; }
  // What the state is now. A program for one token reads one state's slot() and writes the other's back(), which flip() then
  // makes its slot(): so a state may be read and written at once, and none is copied.
  const Slot& slot() const { return *slots_[front_]; }
  const Slot& back() const { return *slots_[1 - front_]; }
  // Whether the submit of that number writes this state; claim() says that it does, and whether it did not before.
  bool is_written_by(uint64_t submit) const { return writer_ == submit; }
  bool claim(uint64_t submit) { return std::exchange(writer_, submit) != submit; }
  void acquire_back();
  void flip() { front_ = 1 - front_, fresh_ = false; }

 private:
  std::shared_ptr<StateArena> arena_;
  const Slot* slots_[2] = {nullptr, nullptr};
  uint32_t front_ = 0;
  uint64_t writer_ = 0;  // number of the last submit that writes it
  bool fresh_ = true;
};

}  // namespace rwkvnative::webgpu
