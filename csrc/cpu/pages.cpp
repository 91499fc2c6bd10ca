#include "cpu/pages.h"

#include <algorithm>

#include "core/cost.h"
#include "core/error.h"

namespace rwkvnative::cpu {
namespace {

constexpr size_t kSmallBytes = 64 << 10;  // tensors that stay: vectors, which lie between the matrices

// The matrices of an op.
struct Matrices {
  std::vector<TensorId> operator()(const EmbedOp& op) const { return {op.table}; }
  std::vector<TensorId> operator()(const ShiftMixOp&) const { return {}; }
  std::vector<TensorId> operator()(const LinearOp& op) const {
    std::vector<TensorId> ids;
    for (const LinearPart& part : op.parts) ids.push_back(part.weight);
    return ids;
  }
  std::vector<TensorId> operator()(const Wkv7Op& op) const { return {op.w2, op.a2, op.v2, op.g2}; }
  std::vector<TensorId> operator()(const HeadOp& op) const { return {op.weight}; }
};

}  // namespace

Pages::Pages(const Plan& plan, std::shared_ptr<const ModelFile> file, uint64_t budget) : file_(std::move(file)), budget_(budget) {
  int32_t layer = -1;
  uint64_t total = 0;
  for (size_t i = 0; i < plan.ops.size(); ++i) {
    const Op& op = plan.ops[i];
    const int32_t now = layer_of(op, layer);
    if (i == 0 || now != layer || std::holds_alternative<HeadOp>(op)) sections_.push_back({.first_op = i, .last_op = i, .ranges = {}});
    layer = now;
    Section& section = sections_.back();
    section.last_op = i;
    section_of_op_.push_back(sections_.size() - 1);
    for (TensorId id : std::visit(Matrices{}, op)) {
      if (id == kNone || plan.tensor(id).bytes() < kSmallBytes) continue;
      section.ranges.emplace_back(plan.tensor(id).data, plan.tensor(id).bytes());
      section.bytes += plan.tensor(id).bytes();
    }
  }
  // The table's section is read row by row: it passes whenever anything does, and needs no room.
  const uint64_t small = [&] {
    uint64_t bytes = plan.weight_bytes();
    for (const Section& section : sections_) bytes -= section.bytes;
    return bytes;
  }();
  std::vector<size_t> by_size;
  for (size_t s = 1; s < sections_.size(); ++s) {
    by_size.push_back(s);
    total += sections_[s].bytes;
  }
  if (small + total + sections_[0].bytes <= budget || by_size.size() < 2) return;
  std::stable_sort(by_size.begin(), by_size.end(), [&](size_t a, size_t b) { return sections_[a].bytes > sections_[b].bytes; });
  const uint64_t least = small + sections_[by_size[0]].bytes + sections_[by_size[1]].bytes;
  if (budget < least) {
    throw InputError(message("[cpu] max_device_memory: ", budget, " bytes are too few for this model; expected at least ", least,
                             ": two of its layers and what every token needs"));
  }
  uint64_t room = budget - least;
  sections_[0].passes = true;
  for (size_t s : by_size) sections_[s].passes = true;
  for (auto smallest = by_size.rbegin(); smallest != by_size.rend() && sections_[*smallest].bytes <= room; ++smallest) {
    sections_[*smallest].passes = false;
    room -= sections_[*smallest].bytes;
  }
}

const Pages::Section* Pages::next_passing(size_t section) const {
  for (size_t step = 1; step < sections_.size(); ++step) {
    const Section& next = sections_[(section + step) % sections_.size()];
    if (next.passes && next.first_op != 0) return &next;
  }
  return nullptr;
}

void Pages::before(size_t index) const {
  const size_t s = section_of_op_[index];
  if (sections_[s].first_op != index) return;
  if (const Section* next = next_passing(s)) {
    for (const auto& range : next->ranges) file_->will_need(range);
  }
}

void Pages::after(size_t index) const {
  const Section& section = sections_[section_of_op_[index]];
  if (section.last_op != index || !section.passes) return;
  for (const auto& range : section.ranges) file_->dont_need(range);
}

MemoryUse Pages::use() const {
  MemoryUse use{.budget = budget_};
  for (size_t s = 1; s < sections_.size(); ++s) {
    ++use.layers;
    use.resident_layers += sections_[s].passes ? 0 : 1;
    if (sections_[s].passes) use.streamed_bytes += sections_[s].bytes;
  }
  return use;
}

}  // namespace rwkvnative::cpu
