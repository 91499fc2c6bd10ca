// A stack per GPU thread, switched in user space. x86-64, System V.
#pragma once

#include <cstddef>
#include <cstdint>

namespace msl {

constexpr size_t kStackBytes = 64 * 1024;
constexpr unsigned kMaxThreads = 1024;  // of a threadgroup

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  // The GPU thread that it runs:
  int thread = -1;
  unsigned lane = 0, simdgroup = 0;
};

// The stacks of all threads of a threadgroup: address space, touched only where used.
class FiberStacks {
 public:
  FiberStacks();
  ~FiberStacks();
  FiberStacks(const FiberStacks&) = delete;
  FiberStacks& operator=(const FiberStacks&) = delete;
  char* at(unsigned i) const { return base_ + i * kStackBytes; }
  bool contains(uintptr_t address) const { return address - reinterpret_cast<uintptr_t>(base_) < kStackBytes * kMaxThreads; }

 private:
  char* base_;
};

// Makes the fiber call `entry`, which must not return, when it is switched to for the first time.
void reset_fiber(Fiber& fiber, unsigned index, void (*entry)());

// Saves the callee-saved registers and the stack pointer to *save and continues at `to`.
extern "C" void msl_switch_fiber(void** save, void* to);

}  // namespace msl
