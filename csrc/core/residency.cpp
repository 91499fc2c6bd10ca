#include "core/residency.h"

#include <algorithm>

namespace rwkvnative {
namespace {

// Of states: a caller's and the one that is being made from it, each with another to be written while it is read; one between
// two places, two on their way to the host, and one more while their block grows.
constexpr uint64_t kStates = 8;

}  // namespace

uint64_t state_reserve(uint64_t state_bytes) { return kStates * state_bytes; }

void count_units(MemoryUse& use, std::span<const Unit> units) {
  bool whole_head = true;
  for (const Unit& unit : units) {
    if (unit.streams()) use.streamed_bytes += unit.bytes;
    if (unit.of_head) {
      whole_head = whole_head && !unit.streams();
    } else {
      ++use.layers;
      use.resident_layers += unit.streams() ? 0 : 1;
    }
  }
  ++use.layers;
  use.resident_layers += whole_head ? 1 : 0;
}

bool choose_residency(std::string_view backend, std::vector<Unit>& units, const Demand& demand, uint64_t budget) {
  uint64_t all = 0, largest = 0;
  for (const Unit& unit : units) {
    all += unit.bytes;
    largest = std::max(largest, unit.bytes);
  }
  const uint64_t fixed = demand.always + demand.working;
  if (fixed + all + demand.table <= budget) return true;
  if (fixed + all <= budget) return false;
  const uint64_t least = fixed + kSlots * largest;
  if (least > budget || units.size() <= kSlots) {
    throw BudgetTooSmall(message("[", backend, "] max_device_memory: ", budget, " bytes are too few for this model; expected at least ",
                             std::min(least, fixed + all), ": ", demand.working, " to work in, ", demand.always,
                             " for what every token needs, and two slots of ", largest, " for the layers in turn"));
  }
  // As many stay as fit when the largest go first; then which ones is free, for they are much alike.
  uint64_t room = budget - least;
  std::vector<size_t> order(units.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return units[a].bytes < units[b].bytes; });
  size_t stay = 0;
  for (; stay < order.size() && units[order[stay]].bytes <= room; ++stay) room -= units[order[stay]].bytes;
  // Evenly: unit i streams when the running share of streamed units passes a whole number.
  const size_t n = units.size(), stream = n - stay;
  uint64_t kept = 0, next_slot = 0;
  room = budget - least;
  for (size_t i = 0; i < n; ++i) {
    const bool in_turn = (i + 1) * stream / n != i * stream / n;
    if (in_turn || kept + units[i].bytes > room) {
      units[i].slot = static_cast<uint32_t>(next_slot++ % kSlots);
    } else {
      kept += units[i].bytes;
    }
  }
  return false;
}

}  // namespace rwkvnative
