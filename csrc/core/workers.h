// Threads for jobs that come one by one and take long: started as jobs come, gone when none are left.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace rwkvnative {

// add() and wait() are for one thread at a time.
class Workers {
 public:
  explicit Workers(uint32_t most) : most_(most) {}
  ~Workers() { wait(); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // The job must not throw. Jobs begin in the order in which they come; where the system gives no thread at all, this one does them.
  void add(std::function<void()> job);
  // Until all are done.
  void wait();

 private:
  void serve();  // what a thread does

  const uint32_t most_;
  std::mutex mutex_;
  std::deque<std::function<void()>> jobs_;
  uint32_t serving_ = 0;  // threads that look for another job before they end
  std::vector<std::thread> threads_;
};

}  // namespace rwkvnative
