// Counting device memory against a budget.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace rwkvnative {

// What the buffers of a device take: weights, activations, states, results, staging. Thread-safe.
class MemoryAccount {
 public:
  // No more than `bytes` from now on; 0: no limit.
  void set_budget(uint64_t bytes);
  // For tests: a device that refuses anything beyond `bytes`.
  void pretend_total(uint64_t bytes) { total_ = bytes; }
  uint64_t pretended_total() const { return total_; }

  uint64_t budget() const;
  uint64_t used() const;
  uint64_t peak() const;
  void reset_peak();  // to what is used now
  // Why `bytes` more were refused: what was asked, what is used, what the limit is.
  std::string refusal(uint64_t bytes) const;

 private:
  friend class MemoryLease;
  bool add(uint64_t bytes);
  void subtract(uint64_t bytes);

  mutable std::mutex mutex_;
  uint64_t budget_ = 0, used_ = 0, peak_ = 0;
  uint64_t total_ = UINT64_MAX;
};

// Holds a number of bytes of an account; false if it had no room for them.
class MemoryLease {
 public:
  MemoryLease() = default;
  MemoryLease(std::shared_ptr<MemoryAccount> account, uint64_t bytes) : bytes_(bytes) {
    if (account->add(bytes)) account_ = std::move(account);
  }
  MemoryLease(MemoryLease&& other) noexcept : account_(std::move(other.account_)), bytes_(other.bytes_) {}
  MemoryLease& operator=(MemoryLease&& other) noexcept {
    std::swap(account_, other.account_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MemoryLease() {
    if (account_) account_->subtract(bytes_);
  }
  explicit operator bool() const { return account_ != nullptr; }

 private:
  std::shared_ptr<MemoryAccount> account_;
  uint64_t bytes_ = 0;
};

}  // namespace rwkvnative
