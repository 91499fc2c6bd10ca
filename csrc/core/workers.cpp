#include "core/workers.h"

#include <system_error>

namespace rwkvnative {

void Workers::add(std::function<void()> job) {
  bool alone = false;
  {
    const std::scoped_lock lock(mutex_);
    jobs_.push_back(std::move(job));
    if (serving_ >= most_) return;
    try {
      threads_.emplace_back([this] { serve(); });
      ++serving_;
    } catch (const std::system_error&) {
      if (serving_ != 0) return;
      alone = true;
      ++serving_;
    }
  }
  if (alone) serve();
}

void Workers::serve() {
  std::unique_lock lock(mutex_);
  while (!jobs_.empty()) {
    const std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    lock.lock();
  }
  --serving_;
}

void Workers::wait() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace rwkvnative
