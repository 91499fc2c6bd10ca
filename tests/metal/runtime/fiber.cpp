#include "fiber.h"

#include <sys/mman.h>

#include <new>

namespace msl {

#if !defined(__x86_64__)
#error "the emulator's context switch is written for x86-64"
#endif

asm(R"(.text
.globl msl_switch_fiber
.type msl_switch_fiber, @function
msl_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

FiberStacks::FiberStacks() {
  void* base = mmap(nullptr, kStackBytes * kMaxThreads, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<char*>(base);
}

FiberStacks::~FiberStacks() { munmap(base_, kStackBytes * kMaxThreads); }

void reset_fiber(Fiber& fiber, unsigned index, void (*entry)()) {
  // Tops of stacks at different offsets of their pages, or all would fall on the same cache lines.
  uintptr_t top = reinterpret_cast<uintptr_t>(fiber.stack) + kStackBytes - 64 - (index % 61) * 192;
  void** p = reinterpret_cast<void**>(top & ~uintptr_t{15});
  *--p = nullptr;                            // entry's return address
  *--p = reinterpret_cast<void*>(entry);     // where msl_switch_fiber returns to
  for (int i = 0; i < 6; i++) *--p = nullptr;  // the registers that it pops
  fiber.stack_pointer = p;
}

}  // namespace msl
