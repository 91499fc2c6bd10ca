#include "core/memory_account.h"

#include <algorithm>

#include "core/error.h"

namespace rwkvnative {

void MemoryAccount::set_budget(uint64_t bytes) {
  const std::scoped_lock lock(mutex_);
  budget_ = bytes;
}

uint64_t MemoryAccount::budget() const {
  const std::scoped_lock lock(mutex_);
  return budget_;
}

uint64_t MemoryAccount::used() const {
  const std::scoped_lock lock(mutex_);
  return used_;
}

uint64_t MemoryAccount::peak() const {
  const std::scoped_lock lock(mutex_);
  return peak_;
}

void MemoryAccount::reset_peak() {
  const std::scoped_lock lock(mutex_);
  peak_ = used_;
}

bool MemoryAccount::add(uint64_t bytes) {
  const std::scoped_lock lock(mutex_);
  const uint64_t limit = budget_ == 0 ? total_ : std::min(budget_, total_);
  if (used_ > limit || bytes > limit - used_) return false;
  used_ += bytes;
  peak_ = std::max(peak_, used_);
  return true;
}

void MemoryAccount::subtract(uint64_t bytes) {
  const std::scoped_lock lock(mutex_);
  used_ -= bytes;
}

std::string MemoryAccount::refusal(uint64_t bytes) const {
  const std::scoped_lock lock(mutex_);
  const bool of_budget = budget_ != 0 && budget_ <= total_;
  return message("no room for ", bytes, " bytes: ", used_, " of the ", of_budget ? budget_ : total_, " bytes of ",
                 of_budget ? "max_device_memory" : "device memory", " are in use");
}

}  // namespace rwkvnative
