#include "threadgroup.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace msl {

namespace {

thread_local Threadgroup* g_current = nullptr;

std::string format(const char* text, ...) __attribute__((format(printf, 1, 2)));
std::string format(const char* text, ...) {
  char buffer[400];
  va_list values;
  va_start(values, text);
  vsnprintf(buffer, sizeof buffer, text, values);
  va_end(values);
  return buffer;
}

size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

msl_statistics total_statistics{};

Threadgroup::Threadgroup() : fibers_(kMaxThreads), simdgroups_(kMaxThreads / kLanes) {
  for (unsigned i = 0; i < kMaxThreads; i++) fibers_[i].stack = stacks_.at(i);
}

Threadgroup* Threadgroup::current() { return g_current; }

// ---------------------------------------------------------------- a dispatch, a threadgroup, a thread

void Threadgroup::work(Job& job) {
  g_current = this;
  job_ = &job;
  failed_ = false;
  error_.clear();
  statistics_ = {};
  size_t bytes = 0;
  for (size_t n : job.args->threadgroup_bytes) bytes += round_up(n, 16);
  memory_.resize(bytes + 64);
  static_memory_ = job.library->static_threadgroup_memory();
  while (!job.failed) {
    const uint32_t group = job.next_group++;
    if (group >= job.groups()) break;
    run(group);
    if (failed_) {
      std::lock_guard lock(job.mutex);
      if (!job.failed.exchange(true)) job.error = error_;
    }
  }
  running_ = nullptr;
  g_current = nullptr;
  std::lock_guard lock(job.mutex);
  total_statistics.threads += statistics_.threads;
  total_statistics.switches += statistics_.switches;
  total_statistics.exchanges += statistics_.exchanges;
  total_statistics.barriers += statistics_.barriers;
}

void Threadgroup::run(uint32_t group) {
  const msl_dispatch_args& a = *job_->args;
  group_ = group;
  n_threads_ = job_->threads();
  n_simdgroups_ = (n_threads_ + kLanes - 1) / kLanes;
  started_ = finished_ = 0;
  ready_.clear();
  ready_head_ = 0;
  free_.clear();
  for (unsigned i = n_threads_; i-- > 0;) free_.push_back(static_cast<uint16_t>(i));
  at_barrier_ = 0;
  waiting_at_barrier_.clear();
  std::fill(std::begin(epochs_), std::end(epochs_), 0);
  for (unsigned i = 0; i < n_simdgroups_; i++) {
    Simdgroup& g = simdgroups_[i];
    g.n_lanes = std::min(kLanes, n_threads_ - i * kLanes);
    g.finished = g.arrived = g.phase = g.at_barrier = 0;
    g.reduce = nullptr;
    g.waiting.clear();
    g.waiting_at_barrier.clear();
    std::fill(std::begin(g.epochs), std::end(g.epochs), 0);
  }

  builtins_ = {};
  const uint32_t position[3] = {group % a.groups[0], group / a.groups[0] % a.groups[1], group / (a.groups[0] * a.groups[1])};
  for (int c = 0; c < 3; c++) {
    builtins_.value[threadgroup_position_in_grid][c] = position[c];
    builtins_.value[threads_per_threadgroup][c] = a.threads[c];
    builtins_.value[threadgroups_per_grid][c] = a.groups[c];
    builtins_.value[threads_per_grid][c] = job_->exact() ? a.exact[c] : a.groups[c] * a.threads[c];
  }
  builtins_.value[threads_per_simdgroup][0] = kLanes;
  builtins_.value[simdgroups_per_threadgroup][0] = n_simdgroups_;

  // Threadgroup memory holds anything at first: here NaNs, so that a result that depends on it is wrong.
  std::memset(memory_.data(), 0xff, memory_.size());
  if (static_memory_) std::memset(static_memory_, 0xff, job_->library->static_threadgroup_bytes());
  size_t offset = 0;
  for (int i = 0; i < kMaxBindings; i++) {
    arguments_.buffer[i] = a.buffers[i].data;
    arguments_.memory[i] = a.threadgroup_bytes[i] ? memory_.data() + offset : nullptr;
    offset += round_up(a.threadgroup_bytes[i], 16);
  }

  order_.resize(n_threads_);
  for (unsigned i = 0; i < n_threads_; i++) order_[i] = static_cast<uint16_t>(i);
  if (a.seed) {
    random_.seed(static_cast<uint32_t>(a.seed) * 1000003u + group);
    std::shuffle(order_.begin(), order_.end(), random_);
  }
  Fiber& first = fibers_[free_.back()];
  reset_fiber(first, free_.back(), fiber_entry);
  free_.pop_back();
  running_ = &first;
  msl_switch_fiber(&worker_stack_pointer_, first.stack_pointer);
}

Builtins Threadgroup::builtins_of(unsigned t) const {
  const msl_dispatch_args& a = *job_->args;
  Builtins b = builtins_;
  const uint32_t position[3] = {t % a.threads[0], t / a.threads[0] % a.threads[1], t / (a.threads[0] * a.threads[1])};
  for (int c = 0; c < 3; c++) {
    b.value[thread_position_in_threadgroup][c] = position[c];
    b.value[thread_position_in_grid][c] = b.value[threadgroup_position_in_grid][c] * a.threads[c] + position[c];
  }
  b.value[thread_index_in_threadgroup][0] = t;
  b.value[thread_index_in_simdgroup][0] = t % kLanes;
  b.value[simdgroup_index_in_threadgroup][0] = t / kLanes;
  return b;
}

void Threadgroup::run_thread(unsigned t) {
  running_->thread = static_cast<int>(t);
  running_->lane = t % kLanes;
  running_->simdgroup = t / kLanes;
  const Builtins b = builtins_of(t);
  bool inside = true;
  if (job_->exact())
    for (int c = 0; c < 3; c++) inside &= b.value[thread_position_in_grid][c] < job_->args->exact[c];
  if (inside) job_->kernel->run(&arguments_, &b);
  statistics_.threads++;
  finished_++;
  Simdgroup& g = simdgroups_[t / kLanes];
  g.finished |= 1u << t % kLanes;
  if (g.arrived && __builtin_popcount(g.arrived | g.finished) == static_cast<int>(g.n_lanes))
    fail(format("lanes %08x returned before the SIMD-group function at line %u that lanes %08x execute", g.finished, g.line, g.arrived));
}

// ---------------------------------------------------------------- the schedule

void Threadgroup::fiber_entry() { g_current->run_threads(); }

// A fiber runs one thread after another, so that kernels without barriers need one stack; it ends when others wait to go on.
void Threadgroup::run_threads() {
  for (;;) {
    if (started_ < n_threads_) {
      run_thread(order_[started_++]);
      if (!job_->args->seed && started_ < n_threads_ && !anything_ready()) continue;
    }
    if (finished_ == n_threads_) leave();
    if (anything_ready()) {
      Fiber* self = running_;
      Fiber* next = pick();
      free_.push_back(index_of(self));
      running_ = next;
      statistics_.switches++;
      msl_switch_fiber(&self->stack_pointer, next->stack_pointer);
      __builtin_trap();  // a freed fiber starts from the top
    }
    if (started_ == n_threads_) diverged();
  }
}

// The fiber to run next: in order, or by chance one that was woken or a new thread. Null: every started thread waits.
Fiber* Threadgroup::pick() {
  const bool shuffled = job_->args->seed != 0;
  const bool can_start = started_ < n_threads_ && !free_.empty();
  size_t n_ready = ready_.size() - ready_head_;
  if (shuffled && can_start && n_ready && random(2)) n_ready = 0;
  if (n_ready) {
    if (shuffled) std::swap(ready_[ready_head_], ready_[ready_head_ + random(static_cast<uint32_t>(n_ready))]);
    Fiber* fiber = &fibers_[ready_[ready_head_++]];
    if (!anything_ready()) {
      ready_.clear();
      ready_head_ = 0;
    }
    return fiber;
  }
  if (!can_start) return nullptr;
  Fiber& fiber = fibers_[free_.back()];
  reset_fiber(fiber, free_.back(), fiber_entry);
  free_.pop_back();
  return &fiber;
}

// Lets others run until somebody wakes this fiber; the caller has put it into a list of waiting ones.
void Threadgroup::wait() {
  Fiber* self = running_;
  Fiber* next = pick();
  if (!next) diverged();
  if (next == self) return;
  running_ = next;
  statistics_.switches++;
  msl_switch_fiber(&self->stack_pointer, next->stack_pointer);
  running_ = self;
}

void Threadgroup::wake(std::vector<uint16_t>& fibers) {
  ready_.insert(ready_.end(), fibers.begin(), fibers.end());
  fibers.clear();
}

void Threadgroup::leave() {
  void* abandoned;
  msl_switch_fiber(&abandoned, worker_stack_pointer_);
  __builtin_unreachable();
}

void Threadgroup::fail(const std::string& what) {
  failed_ = true;
  error_ = format("kernel %s, threadgroup %u: ", job_->kernel->name, group_) + what;
  leave();
}

void Threadgroup::diverged() {
  std::string waiting;
  int shown = 0;
  for (unsigned i = 0; i < n_simdgroups_ && shown < 4; i++) {
    const Simdgroup& g = simdgroups_[i];
    if (g.arrived) {
      waiting += format(" simdgroup %u: lanes %08x wait at a SIMD-group function at line %u, lanes %08x finished;", i, g.arrived, g.line, g.finished);
      shown++;
    }
    if (g.at_barrier) waiting += format(" simdgroup %u: lanes %08x wait at simdgroup_barrier line %u;", i, g.at_barrier, g.barrier_line);
  }
  if (at_barrier_) waiting += format(" %u of %u threads wait at threadgroup_barrier line %u;", at_barrier_, n_threads_, barrier_line_);
  fail("divergent synchronisation:" + waiting + format(" %u threads finished", finished_));
}

// ---------------------------------------------------------------- SIMD-group functions and barriers

void Threadgroup::complete(Simdgroup& g) {
  g.took_part[g.phase] = g.arrived;
  if (g.reduce) g.reduce(g.slots[g.phase], g.arrived, g.result[g.phase]);
  wake(g.waiting);
  g.phase ^= 1;
  g.arrived = 0;
}

Exchange Threadgroup::exchange(const void* value, unsigned size, unsigned function, unsigned line, Reduction reduce) {
  Fiber* self = running_;
  Simdgroup& g = simdgroups_[self->simdgroup];
  statistics_.exchanges++;
  if (!g.arrived) {
    g.function = function;
    g.line = line;
    g.reduce = reduce;
  } else if (g.function != function || g.line != line) {
    fail(format("lanes of simdgroup %u execute different SIMD-group functions (line %u and line %u)", self->simdgroup, g.line, line));
  }
  const unsigned phase = g.phase;
  std::memcpy(g.slots[phase] + self->lane * kSlotBytes, value, size);
  g.arrived |= 1u << self->lane;
  if (__builtin_popcount(g.arrived) == static_cast<int>(g.n_lanes)) {
    complete(g);
  } else {
    if (g.finished && __builtin_popcount(g.arrived | g.finished) == static_cast<int>(g.n_lanes))
      fail(format("lanes %08x returned before the SIMD-group function at line %u that lanes %08x execute", g.finished, line, g.arrived));
    g.waiting.push_back(index_of(self));
    wait();
  }
  return {g.slots[phase], g.took_part[phase], self->lane};
}

const void* Threadgroup::reduce(const void* value, unsigned size, unsigned function, unsigned line, Reduction reduce) {
  Simdgroup& g = simdgroups_[running_->simdgroup];
  const unsigned phase = g.phase;
  exchange(value, size, function, line, reduce);
  return g.result[phase];
}

namespace {
void advance(Epochs& epochs, unsigned flags) {
  for (int space = 0; space < n_spaces; space++)
    if (flags >> space & 1) epochs[space]++;
}
}  // namespace

void Threadgroup::threadgroup_barrier(unsigned flags, unsigned line) {
  statistics_.barriers++;
  if (at_barrier_ && barrier_line_ != line)
    fail(format("threads wait at different threadgroup_barriers (line %u and line %u)", barrier_line_, line));
  barrier_line_ = line;
  waiting_at_barrier_.push_back(index_of(running_));
  if (++at_barrier_ == n_threads_) {
    at_barrier_ = 0;
    advance(epochs_, flags);
    if (job_->args->seed == 0) {  // the last to arrive simply goes on
      waiting_at_barrier_.pop_back();
      wake(waiting_at_barrier_);
      return;
    }
    wake(waiting_at_barrier_);
  }
  wait();
}

void Threadgroup::simdgroup_barrier(unsigned flags, unsigned line) {
  statistics_.barriers++;
  Simdgroup& g = simdgroups_[running_->simdgroup];
  if (g.at_barrier && g.barrier_line != line)
    fail(format("lanes of simdgroup %u wait at different simdgroup_barriers (line %u and line %u)", running_->simdgroup, g.barrier_line, line));
  g.barrier_line = line;
  g.at_barrier |= 1u << running_->lane;
  if (__builtin_popcount(g.at_barrier) == static_cast<int>(g.n_lanes)) {
    g.at_barrier = 0;
    advance(g.epochs, flags);
    wake(g.waiting_at_barrier);
  } else {
    g.waiting_at_barrier.push_back(index_of(running_));
    wait();
  }
}

// ---------------------------------------------------------------- whose memory

bool Threadgroup::owns(uintptr_t address) const {
  const uintptr_t slots = reinterpret_cast<uintptr_t>(simdgroups_.data());
  return stacks_.contains(address) || address - slots < simdgroups_.size() * sizeof(Simdgroup);
}

bool Threadgroup::is_threadgroup_memory(uintptr_t address, size_t size) const {
  for (int i = 0; i < kMaxBindings; i++) {
    const uintptr_t base = reinterpret_cast<uintptr_t>(arguments_.memory[i]);
    if (base && address >= base && address + size <= base + job_->args->threadgroup_bytes[i]) return true;
  }
  const uintptr_t base = reinterpret_cast<uintptr_t>(static_memory_);
  return base && address >= base && address + size <= base + job_->library->static_threadgroup_bytes();
}

}  // namespace msl

// ---------------------------------------------------------------- entry points of kernels

msl::Exchange msl_simd_exchange(const void* value, unsigned size, unsigned function, unsigned line) {
  return msl::Threadgroup::current()->exchange(value, size, function, line, nullptr);
}
const void* msl_simd_reduce(const void* value, unsigned size, unsigned function, unsigned line, msl::Reduction reduce) {
  return msl::Threadgroup::current()->reduce(value, size, function, line, reduce);
}
void msl_threadgroup_barrier(unsigned mem_flags, unsigned line) { msl::Threadgroup::current()->threadgroup_barrier(mem_flags, line); }
void msl_simdgroup_barrier(unsigned mem_flags, unsigned line) { msl::Threadgroup::current()->simdgroup_barrier(mem_flags, line); }
unsigned msl_lane() { return msl::Threadgroup::current()->lane(); }
