// Which dispatches of a streaming program read which unit, and which carry which bytes of the one that comes next (carry.h).
#include <algorithm>

#include "core/error.h"
#include "webgpu/carry_shares.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint64_t kUniform = 256;  // bytes: what an offset of any uniform binding is a multiple of

}  // namespace

void Compiler::mark_unit(size_t begin, uint32_t unit) {
  if (unit == kNoUnit || !model_.weights->units()[unit].streams()) return;
  for (size_t i = begin; i < compiled_.dispatches.size(); ++i) compiled_.dispatches[i].unit = unit;
}

void Compiler::find_runs() {
  for (size_t i = 0; i < compiled_.dispatches.size(); ++i) {
    const uint32_t unit = compiled_.dispatches[i].unit;
    if (i == 0 || unit != compiled_.runs.back().unit) compiled_.runs.push_back({.unit = unit, .begin = i});
    compiled_.runs.back().end = i + 1;
  }
  uint32_t next = kNoUnit;
  for (size_t i = compiled_.runs.size(); i-- > 0;) {
    compiled_.runs[i].next = next;
    if (compiled_.runs[i].unit != kNoUnit) next = compiled_.runs[i].unit;
  }
}

// Not those around the layers: they are short, bind as many buffers as they may, and some submits leave them out.
bool Compiler::can_carry(size_t dispatch) const {
  const Bindings bindings = texts_[dispatch].bindings;
  if (bindings == Bindings::Choice || bindings == Bindings::Draw || bindings == Bindings::Embed) return false;
  const Grid grid = compiled_.dispatches[dispatch].grid;
  return grid != Grid::Bias && grid != Grid::History && model_.pipelines->can_carry(bindings);
}

// A unit may come once its slot is read no more: during the run before its own that reads another slot, and during what follows
// that and stays. Shares are as the dispatches' times, so that each hides its own, whichever of the two is longer.
void Compiler::add_carries() {
  if (!device_.options().carry) return;
  const std::vector<Unit>& units = model_.weights->units();
  const Tuning& tuning = tuned_.all;
  const uint64_t limit = device_.max_binding();
  std::vector<Run>& runs = compiled_.runs;
  const auto streams = std::find_if(runs.begin(), runs.end(), [](const Run& run) { return run.unit != kNoUnit; });
  const uint32_t first = streams == runs.end() ? kNoUnit : streams->unit;
  bool any = false;
  const uint32_t steps = ceil_div(tuning.carry_threads, kCarryStep);
  compiled_.carrying_threads = device_.create_buffer("carrying threads", kUniform * steps, WGPUBufferUsage_Uniform | WGPUBufferUsage_CopyDst);
  std::vector<uint32_t> uniforms(kUniform / 4 * steps);
  for (uint32_t i = 0; i < steps; ++i) uniforms[kUniform / 4 * i] = kCarryStep * (i + 1);
  device_.write(compiled_.carrying_threads.get(), 0, std::as_bytes(std::span(uniforms)));
  const auto threads_range = [&](uint32_t threads) {
    return Pipelines::Range{compiled_.carrying_threads.get(), kUniform * (threads / kCarryStep - 1), 16};
  };
  for (size_t begin = 0, end = 0; begin < runs.size(); begin = end) {
    // A program's last runs carry what the next program begins with.
    const uint32_t target = runs[begin].next != kNoUnit ? runs[begin].next : first;
    const auto reads_slot = [&](const Run& run) { return run.unit != kNoUnit && units[run.unit].slot == units[target].slot; };
    // Runs that come to the same target: one that streams, and what stays behind it.
    for (end = begin + 1; end < runs.size() && runs[end].unit == kNoUnit;) ++end;
    if (target == kNoUnit || !model_.stream->imported(target)) continue;
    std::vector<size_t> numbers;
    std::vector<Carrier> carriers;
    for (size_t r = begin; r < end; ++r) {
      for (size_t i = runs[r].begin; i < runs[r].end && !reads_slot(runs[r]); ++i) {
        if (!can_carry(i)) continue;
        numbers.push_back(i);
        const Dispatch& dispatch = compiled_.dispatches[i];
        const double time = estimated_microseconds(dispatch.cost, is_of_head(dispatch.grid) ? head_rows() : shape_.rows, shape_.sequences);
        // Products of tiles fill the device: what copies beside them delays some of their workgroups.
        carriers.push_back({time, texts_[i].bindings == Bindings::Product ? tuning.carry_products / 100.0 : 1.0});
      }
    }
    const std::vector<Share> shares = carried_shares(carriers, units[target].bytes, limit, tuning);
    if (shares.empty()) continue;  // bindings too small
    uint64_t offset = 0;
    Carry* last = nullptr;
    for (size_t c = 0; c < carriers.size(); offset += shares[c++].bytes) {
      const auto [bytes, threads] = shares[c];
      if (bytes == 0) continue;
      Carry& carry = compiled_.dispatches[numbers[c]].carry;
      const Pipelines::Range ranges[] = {{model_.stream->imported(target), offset, bytes},
                                         {model_.weights->slot(units[target].slot), offset, bytes},
                                         threads_range(threads)};
      carry = {target, last == nullptr, false, threads, model_.pipelines->bind_carry(ranges)};
      last = &carry;
    }
    last->last = true;
    any = true;
    for (size_t r = begin; r < end; ++r) runs[r].carries_next = true;
  }
  if (!any) return;
  // One kernel for dispatches of a kind, whether they have a share or not.
  compiled_.carried_nowhere = device_.create_buffer("carried nowhere", 16, WGPUBufferUsage_Storage);
  const Pipelines::Range ranges[] = {{compiled_.dummy.get(), 0, 16}, {compiled_.carried_nowhere.get()}, threads_range(kCarryStep)};
  compiled_.carries_nothing = model_.pipelines->bind_carry(ranges);
}

void Compiler::request_kernels() {
  for (size_t i = 0; i < texts_.size(); ++i) {
    Dispatch& dispatch = compiled_.dispatches[i];
    dispatch.kernel = &model_.pipelines->request(dispatch.label, texts_[i].source, texts_[i].bindings,
                                                compiled_.carries_nothing && can_carry(i));
  }
}

}  // namespace rwkvnative::webgpu
