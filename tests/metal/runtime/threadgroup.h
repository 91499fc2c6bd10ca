// Runs one threadgroup after another: a fiber for each thread, switched at barriers and SIMD-group functions only.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "abi.h"
#include "fiber.h"
#include "library.h"
#include "msl_runtime.h"

namespace msl {

// One dispatch, shared by the workers.
struct Job {
  Job(const msl_library* l, const KernelEntry* k, const msl_dispatch_args* a) : library(l), kernel(k), args(a) {}

  const msl_library* library;
  const KernelEntry* kernel;
  const msl_dispatch_args* args;
  uint64_t first_access = 0;  // number of the dispatch's first thread: thread t of threadgroup g is first_access + g * size + t
  std::atomic<uint32_t> next_group{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::string error;

  uint32_t threads() const { return args->threads[0] * args->threads[1] * args->threads[2]; }
  uint32_t groups() const { return args->groups[0] * args->groups[1] * args->groups[2]; }
  bool exact() const { return args->exact[0] != 0; }
};

// Memory that barriers order: the index is the bit of mem_flags.
enum Space : int { device_space, threadgroup_space, n_spaces };

// How often a barrier that covers each space was passed.
using Epochs = uint16_t[n_spaces];

struct Simdgroup {
  unsigned n_lanes;
  unsigned finished;  // lanes whose thread has returned
  // The SIMD-group function under way. Two phases alternate: a lane may be one function ahead of another that has yet to
  // read its result, never two.
  unsigned arrived, phase, function, line;
  Reduction reduce;
  unsigned took_part[2];
  alignas(64) char slots[2][kLanes * kSlotBytes];
  alignas(16) char result[2][kSlotBytes];
  std::vector<uint16_t> waiting;
  // The simdgroup_barrier under way.
  unsigned at_barrier, barrier_line;
  std::vector<uint16_t> waiting_at_barrier;
  Epochs epochs;
};

class Threadgroup {
 public:
  Threadgroup();
  // Takes threadgroups of the job until there is none left or one fails.
  void work(Job& job);

  // The instance of this worker while it runs a kernel, else null.
  static Threadgroup* current();

  // ---- what kernels call, on a fiber
  Exchange exchange(const void* value, unsigned size, unsigned function, unsigned line, Reduction reduce);
  const void* reduce(const void* value, unsigned size, unsigned function, unsigned line, Reduction reduce);
  void threadgroup_barrier(unsigned flags, unsigned line);
  void simdgroup_barrier(unsigned flags, unsigned line);
  unsigned lane() const { return running_->lane; }
  // Ends the dispatch with an error; does not return.
  [[noreturn]] void fail(const std::string& what);

  // ---- what the checker asks
  const Job& job() const { return *job_; }
  bool on_a_thread() const { return running_ != nullptr && !failed_; }
  unsigned thread() const { return static_cast<unsigned>(running_->thread); }
  unsigned simdgroup() const { return running_->simdgroup; }
  uint32_t group() const { return group_; }
  uint32_t size() const { return n_threads_; }
  uint64_t group_access() const { return job_->first_access + uint64_t{group_} * n_threads_; }
  unsigned epoch(Space space) const { return epochs_[space]; }
  unsigned simdgroup_epoch(Space space) const { return simdgroups_[running_->simdgroup].epochs[space]; }
  // Whether the memory belongs to the runtime: a thread's own stack, or the slots of the simdgroups.
  bool owns(uintptr_t address) const;
  // Whether all of it is threadgroup memory of this threadgroup; `partly` if it only begins in it.
  bool is_threadgroup_memory(uintptr_t address, size_t size) const;
  const Arguments& arguments() const { return arguments_; }

 private:
  void run(uint32_t group);
  static void fiber_entry();
  void run_threads();
  void run_thread(unsigned t);
  Builtins builtins_of(unsigned t) const;
  Fiber* pick();
  void wait();
  void wake(std::vector<uint16_t>& fibers);
  void complete(Simdgroup& g);
  [[noreturn]] void leave();
  [[noreturn]] void diverged();
  bool anything_ready() const { return ready_.size() > ready_head_; }
  uint16_t index_of(const Fiber* f) const { return static_cast<uint16_t>(f - fibers_.data()); }
  uint32_t random(uint32_t n) { return random_() % n; }

  FiberStacks stacks_;
  std::vector<Fiber> fibers_;
  std::vector<uint16_t> free_, ready_;  // ready_ is a queue from ready_head_ on
  size_t ready_head_ = 0;
  Fiber* running_ = nullptr;
  void* worker_stack_pointer_ = nullptr;

  Job* job_ = nullptr;
  uint32_t group_ = 0, n_threads_ = 0, started_ = 0, finished_ = 0;
  std::vector<uint16_t> order_;  // in which threads start
  std::mt19937 random_;
  Builtins builtins_;  // what all threads of the threadgroup share
  Arguments arguments_;
  std::vector<char> memory_;  // threadgroup memory that was set through the encoder
  char* static_memory_ = nullptr;  // threadgroup variables of the kernel: thread-local storage of its library
  std::vector<Simdgroup> simdgroups_;
  uint32_t n_simdgroups_ = 0;
  unsigned at_barrier_ = 0, barrier_line_ = 0;
  std::vector<uint16_t> waiting_at_barrier_;
  Epochs epochs_;
  bool failed_ = false;
  std::string error_;
  msl_statistics statistics_{};
};

extern msl_statistics total_statistics;

}  // namespace msl
