#include "cpu/thread_pool.h"

#include <algorithm>
#include <system_error>

#include "core/error.h"

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace rwkvnative::cpu {
namespace {

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && !defined(_MSC_VER)
  __asm__ volatile("yield");
#endif
}

// Barriers are microseconds apart. Where more threads want to run than there are processors, the one that is waited for may
// be waiting for this processor: spin for some ten microseconds, then let others in.
constexpr uint32_t kSpinsBeforeYield = 500;
// Between two tokens a caller samples and prints: stay awake for about a tenth of a millisecond.
constexpr uint32_t kSpinsBeforeSleep = 4000;

}  // namespace

ThreadPool::ThreadPool(uint32_t n_threads) : n_threads_(std::max(1u, n_threads)) {
  try {
    threads_.reserve(n_threads_);
    for (uint32_t i = 1; i < n_threads_; ++i) threads_.emplace_back([this, i] { serve(i); });
  } catch (const std::system_error& error) {
    const size_t started = threads_.size();
    stop();
    throw DeviceError(message("[cpu] the system gives no more than ", started, " threads beside this one, wanted ", n_threads_ - 1, " (",
                              error.what(), "); take fewer, with n_threads"));
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run(const std::function<void(Worker&)>& function) {
  function_ = &function;
  next_task_[0].store(0, std::memory_order_relaxed);
  runs_.fetch_add(1);
  if (sleepers_.load() != 0) {
    std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  work(0);
}

void ThreadPool::work(uint32_t index) {
  Worker worker(*this, index);
  (*function_)(worker);
  worker.barrier();  // function must live until everybody has left it
}

void ThreadPool::serve(uint32_t index) {
  for (uint64_t seen = 0;;) {
    uint32_t spins = 0;
    while (runs_.load(std::memory_order_acquire) == seen && spins < kSpinsBeforeSleep && !stopping_) {
      pause();
      ++spins;
    }
    if (runs_.load(std::memory_order_acquire) == seen) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return stopping_ || runs_.load() != seen; });
      sleepers_.fetch_sub(1);
    }
    if (stopping_) return;
    ++seen;
    work(index);
  }
}

void ThreadPool::Worker::barrier() {
  ThreadPool& pool = pool_;
  const uint32_t generation = pool.generation_.load(std::memory_order_relaxed);
  if (pool.arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == pool.n_threads_) {
    pool.arrived_.store(0, std::memory_order_relaxed);
    pool.generation_.store(generation + 1, std::memory_order_release);
    return;
  }
  for (uint32_t spins = 0; pool.generation_.load(std::memory_order_acquire) == generation; ++spins) {
    if (spins < kSpinsBeforeYield)
      pause();
    else
      std::this_thread::yield();
  }
}

uint32_t available_processors() {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<uint32_t>(std::max(1, CPU_COUNT(&set)));
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace rwkvnative::cpu
