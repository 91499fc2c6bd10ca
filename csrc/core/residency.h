// Which weights stay on the device and which pass through it.
//
// A *unit* stays or streams as a whole: a layer, or a piece of the head of about a layer's size. Streamed units go through
// slots in turn, so that one can be written while another is read. The embedding table is the host's as soon as anything
// must go: it gathers the rows that a submit needs, or the device reads them where they are.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/backend.h"
#include "core/error.h"

namespace rwkvnative {

inline constexpr uint32_t kNoUnit = UINT32_MAX;
inline constexpr uint32_t kNoSlot = UINT32_MAX;
inline constexpr uint32_t kSlots = 2;

struct Unit {
  std::string name;
  uint64_t bytes = 0;  // in the device's layout
  bool of_head = false;
  uint32_t slot = kNoSlot;  // where it passes through; kNoSlot: it stays

  bool streams() const { return slot != kNoSlot; }
};

struct BudgetTooSmall : InputError {
  using InputError::InputError;
};

// What there is to place, in bytes of the device's layout.
struct Demand {
  uint64_t always = 0;   // vectors that belong to no unit
  uint64_t table = 0;    // the embedding table
  uint64_t working = 0;  // activations, states, results, staging
};

// Decides which units stream: as few as the budget allows, spread evenly among the layers. True if the embedding table may
// stay too, which is only so if every unit does. Throws BudgetTooSmall, of the named backend, saying the least that would do.
bool choose_residency(std::string_view backend, std::vector<Unit>& units, const Demand& demand, uint64_t budget);

// The layers and streamed bytes of `use`. The head, in however many pieces, is a layer.
void count_units(MemoryUse& use, std::span<const Unit> units);

// What a few states of `state_bytes` take, with what copying and reading them takes.
uint64_t state_reserve(uint64_t state_bytes);

}  // namespace rwkvnative
