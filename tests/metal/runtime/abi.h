// What a compiled kernel library and the runtime agree on. Freestanding: kernels are compiled without any C library.
#pragma once

namespace msl {

// What a kernel argument is bound to; the builtins carry the names of their MSL attributes.
enum Kind : int {
  buffer,
  threadgroup_memory,
  thread_position_in_grid,
  thread_position_in_threadgroup,
  threadgroup_position_in_grid,
  threads_per_threadgroup,
  threadgroups_per_grid,
  threads_per_grid,
  thread_index_in_threadgroup,
  thread_index_in_simdgroup,
  simdgroup_index_in_threadgroup,
  threads_per_simdgroup,
  simdgroups_per_threadgroup,
  n_kinds,
};

constexpr int kMaxBindings = 31;   // argument table entries of a Metal compute kernel
constexpr unsigned kLanes = 32;    // threads of a simdgroup, as on every Apple GPU
constexpr unsigned kSlotBytes = 32;  // the largest value that a SIMD-group function exchanges

struct Binding {
  Kind kind;
  int index;
  int read_only;
};

struct Arguments {
  void* buffer[kMaxBindings];
  void* memory[kMaxBindings];  // threadgroup memory
};

struct Builtins {
  unsigned value[n_kinds][3];
};

struct KernelEntry {
  const char* name;
  void (*run)(const Arguments*, const Builtins*);
  const Binding* bindings;
  int n_bindings;
  int max_threads;  // [[max_total_threads_per_threadgroup]], or 0
};

struct FunctionConstant {
  int index;
  const char* name;
  const char* type;
  void* storage;
  unsigned long size;
};

// What the lanes of a simdgroup brought to a SIMD-group function.
struct Exchange {
  void* slots;    // kSlotBytes for each lane
  unsigned mask;  // the lanes that took part
  unsigned lane;  // the caller's own
};

using Reduction = void (*)(void* slots, unsigned mask, void* result);

}  // namespace msl

// Called by kernels, implemented by the runtime. `line` tells call sites apart: the lanes must be at the same one.
extern "C" {
msl::Exchange msl_simd_exchange(const void* value, unsigned size, unsigned function, unsigned line);
const void* msl_simd_reduce(const void* value, unsigned size, unsigned function, unsigned line, msl::Reduction reduce);
void msl_threadgroup_barrier(unsigned mem_flags, unsigned line);
void msl_simdgroup_barrier(unsigned mem_flags, unsigned line);
unsigned msl_lane();
void msl_atomic_access(const volatile void* address, unsigned size);
}
