// Validates a dispatch and runs its threadgroups.
#include <cstdarg>
#include <cstdio>
#include <thread>

#include "checker.h"
#include "msl_runtime.h"
#include "threadgroup.h"

namespace {

using namespace msl;

// What every Apple GPU grants a threadgroup.
constexpr size_t kThreadgroupMemory = 32768;

int refuse(char* error, size_t error_size, const char* text, ...) __attribute__((format(printf, 3, 4)));
int refuse(char* error, size_t error_size, const char* text, ...) {
  va_list values;
  va_start(values, text);
  vsnprintf(error, error_size, text, values);
  va_end(values);
  return -1;
}

int validate(const KernelEntry& kernel, const msl_dispatch_args& a, char* error, size_t n) {
  const uint64_t threads = uint64_t{a.threads[0]} * a.threads[1] * a.threads[2];
  const int limit = kernel.max_threads ? kernel.max_threads : static_cast<int>(kMaxThreads);
  if (threads == 0 || threads > static_cast<uint64_t>(limit))
    return refuse(error, n, "kernel %s: %lu threads per threadgroup, expected 1..%d", kernel.name, static_cast<unsigned long>(threads), limit);
  if (!a.groups[0] || !a.groups[1] || !a.groups[2]) return refuse(error, n, "kernel %s: empty grid", kernel.name);
  size_t memory = 0;
  for (int i = 0; i < kMaxBindings; i++) {
    if (a.threadgroup_bytes[i] % 16)
      return refuse(error, n, "kernel %s: threadgroup memory length %zu at index %d is not a multiple of 16", kernel.name, a.threadgroup_bytes[i], i);
    memory += a.threadgroup_bytes[i];
  }
  if (memory > kThreadgroupMemory) return refuse(error, n, "kernel %s: %zu bytes of threadgroup memory, at most %zu", kernel.name, memory, kThreadgroupMemory);
  for (int i = 0; i < kernel.n_bindings; i++) {
    const Binding& b = kernel.bindings[i];
    if (b.kind == buffer && !a.buffers[b.index].data) return refuse(error, n, "kernel %s: nothing is bound to buffer index %d", kernel.name, b.index);
    if (b.kind == threadgroup_memory && !a.threadgroup_bytes[b.index])
      return refuse(error, n, "kernel %s: the length of threadgroup memory %d is not set", kernel.name, b.index);
  }
  return 0;
}

// Function constants and the shadow are global to a library and to the process: one dispatch at a time.
std::mutex g_dispatch;

}  // namespace

int msl_dispatch(msl_library* library, const msl_kernel* kernel, const msl_dispatch_args* args, char* error, size_t error_size) {
  std::lock_guard lock(g_dispatch);
  const KernelEntry& entry = *reinterpret_cast<const KernelEntry*>(kernel);
  if (validate(entry, *args, error, error_size)) return -1;
  Job job(library, &entry, args);
  const uint64_t threads = uint64_t{job.groups()} * job.threads();
  job.first_access = take_access_numbers(threads);
  // Small grids: starting a thread costs more than it gains.
  const int workers = args->check || threads < 8192 || args->workers < 1 ? 1 : args->workers;
  static thread_local Threadgroup own;
  std::vector<std::thread> others;
  for (int i = 1; i < workers; i++)
    others.emplace_back([&job] {
      static thread_local Threadgroup another;
      another.work(job);
    });
  own.work(job);
  for (std::thread& t : others) t.join();
  if (!job.failed) return 0;
  return refuse(error, error_size, "%s", job.error.c_str());
}

msl_statistics msl_get_statistics() { return msl::total_statistics; }
