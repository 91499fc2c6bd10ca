// Threads that run one function together, with barriers and shared task counters in it: a whole token is one run().
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace rwkvnative::cpu {

class ThreadPool {
 public:
  // One thread's view of a run.
  class Worker {
   public:
    uint32_t index() const { return index_; }
    // Every worker calls it with the same tasks; each task runs once, on whichever worker is free. Returns on all workers
    // after the last task.
    template <class Task>
    void for_tasks(uint32_t n_tasks, Task&& task) {
      std::atomic<uint32_t>& next = pool_.next_task_[phase_ & 1];
      // The other counter was last used in the phase before, which every worker has left.
      if (index_ == 0) pool_.next_task_[(phase_ + 1) & 1].store(0, std::memory_order_relaxed);
      ++phase_;
      for (uint32_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n_tasks;) task(i);
      barrier();
    }
    void barrier();

   private:
    friend class ThreadPool;
    Worker(ThreadPool& pool, uint32_t index) : pool_(pool), index_(index) {}
    ThreadPool& pool_;
    uint32_t index_;
    uint32_t phase_ = 0;
  };

  // Throws DeviceError where the system gives no so many threads.
  explicit ThreadPool(uint32_t n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  uint32_t size() const { return n_threads_; }
  // function(worker) on every thread, the caller's included. It must not throw. One run at a time.
  void run(const std::function<void(Worker&)>& function);

 private:
  void stop();
  void serve(uint32_t index);
  void work(uint32_t index);

  const uint32_t n_threads_;
  std::vector<std::thread> threads_;
  const std::function<void(Worker&)>* function_ = nullptr;
  std::atomic<uint64_t> runs_{0};
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  alignas(64) std::atomic<uint32_t> next_task_[2] = {};
  alignas(64) std::atomic<uint32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> generation_{0};
};

// The processors this process may run on.
uint32_t available_processors();

}  // namespace rwkvnative::cpu
