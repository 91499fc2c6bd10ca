#include "core/batch.h"

#include <algorithm>
#include <numeric>

namespace rwkvnative {

BatchQueue::BatchQueue(std::vector<size_t> lengths, uint32_t max_rows, uint32_t max_sequences)
    : left_(lengths),
      lengths_(std::move(lengths)),
      max_rows_(max_rows),
      max_sequences_(std::min(max_rows, max_sequences)),
      total_(std::accumulate(lengths_.begin(), lengths_.end(), size_t{0})) {}

std::span<const BatchQueue::Part> BatchQueue::next() {
  std::erase_if(active_, [&](size_t s) { return left_[s] == 0; });
  // One more sequence enters as long as there are rows that those before it leave free.
  size_t wanted = 0;
  for (size_t s : active_) wanted += left_[s];
  while (entered_ < lengths_.size() && active_.size() < max_sequences_ &&
         (wanted < max_rows_ || active_.size() < max_rows_ / kLeastShare)) {
    wanted += left_[entered_];
    active_.push_back(entered_++);
  }

  parts_.clear();
  uint32_t space = max_rows_;
  const auto n_active = static_cast<uint32_t>(std::max<size_t>(1, active_.size()));
  const uint32_t share = std::max({1u, std::min(kLeastShare, max_rows_), max_rows_ / n_active});
  for (size_t s : active_) {
    const auto rows = static_cast<uint32_t>(std::min<size_t>({left_[s], share, space}));
    if (rows == 0) break;
    parts_.push_back({.sequence = s, .begin = lengths_[s] - left_[s], .rows = rows, .last = rows == left_[s]});
    space -= rows;
  }
  for (Part& part : parts_) {  // what short ones left over
    const auto more = static_cast<uint32_t>(std::min<size_t>(left_[part.sequence] - part.rows, space));
    part.rows += more;
    part.last = part.rows == left_[part.sequence];
    space -= more;
    left_[part.sequence] -= part.rows;
    done_ += part.rows;
  }
  return parts_;
}

}  // namespace rwkvnative
