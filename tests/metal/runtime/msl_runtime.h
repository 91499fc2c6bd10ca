// Executes kernels that msl/compiler.py compiled. A C interface, for the software device (Objective-C++) and for Python
// (ctypes, emulator.py).
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct msl_library msl_library;
typedef struct msl_kernel msl_kernel;

// One bound buffer. In check mode, accesses numbered below `ordered` happened before this dispatch; a younger one by an
// earlier dispatch is a hazard. See msl_mark().
typedef struct {
  void* data;
  size_t size;  // bytes from data to the end of the buffer
  uint64_t ordered;
} msl_range;

typedef struct {
  uint32_t groups[3];   // threadgroups of the grid
  uint32_t threads[3];  // threads of a threadgroup
  uint32_t exact[3];    // dispatchThreads: threads of the grid; all 0 for dispatchThreadgroups
  size_t threadgroup_bytes[31];
  msl_range buffers[31];
  int workers;  // operating system threads that share the grid (check mode: always one)
  int seed;     // 0: threads run in order; otherwise the schedule is shuffled by this seed
  int check;    // the library was compiled with checks: follow every access
} msl_dispatch_args;

// Null with a message on failure.
msl_library* msl_open_library(const char* path, char* error, size_t error_size);
void msl_close_library(msl_library* library);
int msl_kernel_count(const msl_library* library);
const msl_kernel* msl_kernel_at(const msl_library* library, int i);
const msl_kernel* msl_find_kernel(const msl_library* library, const char* name);
const char* msl_kernel_name(const msl_kernel* kernel);
int msl_kernel_max_threads(const msl_kernel* kernel);  // 1024 unless the kernel says less
// 1 if the kernel has an argument at this buffer (threadgroup) index; 2 if that is a pointer to const.
int msl_kernel_uses(const msl_kernel* kernel, int threadgroup, int index);

int msl_constant_count(const msl_library* library);
void msl_constant_at(const msl_library* library, int i, int* index, const char** name, const char** type, size_t* size);
// Sets a function constant for the dispatches to come; 0, or -1 where the library has none of this index.
int msl_set_constant(msl_library* library, int index, const void* value);

// 0, or -1 with a message.
int msl_dispatch(msl_library* library, const msl_kernel* kernel, const msl_dispatch_args* args, char* error, size_t error_size);

// The number that the next access will get: everything before is older.
uint64_t msl_mark(void);
// Forgets what is known about a piece of memory (it was freed, or the host wrote it).
void msl_forget(const void* data, size_t size);

typedef struct {
  uint64_t threads, switches, exchanges, barriers;
} msl_statistics;
msl_statistics msl_get_statistics(void);

#ifdef __cplusplus
}
#endif
