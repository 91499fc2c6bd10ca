#include "webgpu/memory.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace rwkvnative::webgpu {

HostMemory::HostMemory(uint64_t bytes, uint64_t alignment) : alignment_(alignment) {
  size_ = (std::max<uint64_t>(bytes, 1) + alignment - 1) / alignment * alignment;
#ifdef _WIN32
  data_ = static_cast<std::byte*>(VirtualAlloc(nullptr, size_, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE));
  if (data_ == nullptr) throw std::bad_alloc();
#else
  // The system gives whole pages; a larger alignment is cut out of a larger piece.
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t spare = alignment > page ? alignment : 0;
  void* piece = mmap(nullptr, size_ + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (piece == MAP_FAILED) throw std::bad_alloc();
  auto* begin = static_cast<std::byte*>(piece);
  data_ = begin + (alignment - reinterpret_cast<uintptr_t>(begin) % alignment) % alignment;
  if (data_ != begin) munmap(begin, static_cast<size_t>(data_ - begin));
  if (const uint64_t after = spare - static_cast<uint64_t>(data_ - begin); after != 0) munmap(data_ + size_, after);
#ifdef MADV_HUGEPAGE
  madvise(data_, size_, MADV_HUGEPAGE);
#endif
#endif
}

HostMemory::~HostMemory() {
#ifdef _WIN32
  VirtualFree(data_, 0, MEM_RELEASE);
#else
  munmap(data_, size_);
#endif
}

namespace {

#if defined(__linux__)
// The number that follows `key` in a text file, or `otherwise`.
uint64_t number_in_file(const char* path, const char* key, uint64_t otherwise) {
  std::FILE* file = std::fopen(path, "r");
  if (file == nullptr) return otherwise;
  char line[256];
  uint64_t value = otherwise;
  while (std::fgets(line, sizeof line, file) != nullptr) {
    unsigned long long number = 0;
    if (std::strncmp(line, key, std::strlen(key)) == 0 && std::sscanf(line + std::strlen(key), "%llu", &number) == 1) {
      value = number;
      break;
    }
  }
  std::fclose(file);
  return value;
}
#endif

}  // namespace

uint64_t HostMemory::available() {
#if defined(_WIN32)
  MEMORYSTATUSEX status{};
  status.dwLength = sizeof status;
  return GlobalMemoryStatusEx(&status) ? status.ullAvailPhys : 0;
#elif defined(__linux__)
  const uint64_t machine = number_in_file("/proc/meminfo", "MemAvailable:", 0) * 1024;
  const uint64_t most = number_in_file("/sys/fs/cgroup/memory.max", "", UINT64_MAX);  // "max": no limit
  const uint64_t taken = number_in_file("/sys/fs/cgroup/memory.current", "", 0);
  const uint64_t cache = number_in_file("/sys/fs/cgroup/memory.stat", "file ", 0);  // pages of files are given back
  return std::min(machine, most - std::min(most, taken - std::min(taken, cache)));
#else
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) / 2;
#endif
}

}  // namespace rwkvnative::webgpu
