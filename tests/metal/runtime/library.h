// A loaded kernel library.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi.h"

struct msl_library {
  void* handle = nullptr;
  const msl::KernelEntry* kernels = nullptr;
  int n_kernels = 0;
  const msl::FunctionConstant* constants = nullptr;
  int n_constants = 0;
  uintptr_t begin = 0, end = 0;  // where its segments lie

  bool contains(uintptr_t address, size_t size) const { return address >= begin && address + size <= end; }
  // The calling worker's copy of the kernels' threadgroup variables, which are compiled as thread-local ones; may be null.
  char* static_threadgroup_memory() const;
  size_t static_threadgroup_bytes() const { return tls_bytes; }

  size_t tls_module = 0, tls_bytes = 0;
};
