// A model file larger than the memory it may take: the pages of a layer are asked for while the layer before is computed, and
// given back afterwards. As many layers as the budget allows are left alone.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/backend.h"
#include "core/model_file.h"

namespace rwkvnative::cpu {

class Pages {
 public:
  // `budget` in bytes. Throws InputError if it does not hold two layers, saying the least that would do.
  Pages(const Plan& plan, std::shared_ptr<const ModelFile> file, uint64_t budget);

  // Before and after op `index` of the plan.
  void before(size_t index) const;
  void after(size_t index) const;
  MemoryUse use() const;

 private:
  struct Section {  // a layer, the head, or the embedding table
    size_t first_op = 0, last_op = 0;
    std::vector<std::span<const std::byte>> ranges;  // of its large tensors
    uint64_t bytes = 0;
    bool passes = false;
  };
  const Section* next_passing(size_t section) const;

  std::shared_ptr<const ModelFile> file_;
  uint64_t budget_;
  std::vector<Section> sections_;
  std::vector<size_t> section_of_op_;
};

}  // namespace rwkvnative::cpu
