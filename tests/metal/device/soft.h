// A software MTLDevice: the part of Metal that a compute backend uses, on GNUstep, strict about how it is used.
//
// Where Apple's validation layer would stop the process, so does this (SOFT_CHECK). What a GPU finds out, a fault or a
// race of kernels, ends the command buffer with an error, as on a Mac. Work starts as late as is allowed: see queue.mm.
#pragma once

#import <Foundation/Foundation.h>
#import <Metal/Metal.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../runtime/msl_runtime.h"

// Stops the process: the program misuses Metal. The text goes to standard error.
[[noreturn]] void soft_stop(const char* text, ...) __attribute__((format(printf, 1, 2)));
#define SOFT_CHECK(condition, ...) \
  do {                             \
    if (!(condition)) soft_stop(__VA_ARGS__); \
  } while (0)

// Autoreleased. encoders: what MTLCommandBufferEncoderInfoErrorKey gives, or nil.
NSError* soft_error(NSString* domain, NSInteger code, const std::string& text, NSArray* encoders = nil);

// How the device behaves, from environment variables (see README.md), and what a test injects.
struct SoftOptions {
  bool check = false;         // SOFT_METAL_CHECK: kernels with the checker
  int seed = 0;               // SOFT_METAL_SEED: the schedule of threads
  int workers = 1;            // SOFT_METAL_WORKERS
  bool thread = false;        // SOFT_METAL_TIMING=thread: a queue runs on a thread of its own; otherwise when waited for
  std::string device;         // SOFT_METAL_DEVICE: apple (the default), ssh (listed, no default device), macos 12, intel, none
  std::string sampling;       // SOFT_METAL_SAMPLING: stage (as Apple's GPUs, the default), dispatch, none
  uint64_t max_buffer = 0;    // SOFT_METAL_MAX_BUFFER, bytes
  uint64_t working_set = 0;   // SOFT_METAL_WORKING_SET, bytes
  std::string compiler;       // SOFT_METAL_COMPILER: a shell command, tests/metal/msl
  std::string compiler_stamp; // SOFT_METAL_STAMP: changes when the compiler does; empty: remember nothing
  std::string cache;          // SOFT_METAL_CACHE: folder of remembered libraries
  std::string dispatches;     // SOFT_METAL_DISPATCHES: the file that says at the end which kernels ran (soft_ran)
};
SoftOptions& soft_options();

// Faults that a test orders, process-wide; counted down. 0: none.
struct SoftFaults {
  std::atomic<int> command_buffer = 0;  // SOFT_METAL_FAIL="n:code", soft_metal_fail_command_buffer(): the n-th from now ends in error
  std::atomic<int> command_buffer_code = 0;
  int allocation = 0;  // soft_metal_fail_allocation(): the n-th buffer from now is nil
};
SoftFaults& soft_faults();

// One count for each class: what is alive when the process ends has leaked.
void soft_count(const char* name, int change);

// A dispatch ran: the label of its pipeline, and what its work looked like (grid, function constants). With the schedule of
// its threads that is a line of SOFT_METAL_DISPATCHES, "label <tab> seed <tab> shape", each written once.
void soft_ran(const char* label, const std::string& shape);

// Autoreleases an object, as whatever is behind a driver's messages may: a thread without a pool keeps it for good.
inline void soft_use_pool() { [[[NSObject alloc] init] autorelease]; }

// The root of all objects of the device.
@interface SoftObject : NSObject {
 @public
  NSString* label_;
}
- (NSString*)label;
- (void)setLabel:(NSString*)label;
@end

constexpr size_t kPage = 16384;  // of an Apple GPU

@class SoftDevice, SoftHeap, SoftQueue, SoftCommandBuffer;

@interface SoftBuffer : SoftObject <MTLBuffer> {
 @public
  char* bytes_;
  NSUInteger length_;
  MTLResourceOptions options_;
  bool owned_;
  SoftHeap* heap_;
  NSUInteger heap_offset_;
  void (^deallocator_)(void*, NSUInteger);
  uint64_t serial_;  // never reused
}
- (bool)isPrivate;
@end
void soft_owns(int64_t bytes);
NSUInteger soft_allocated_bytes(void);  // by all buffers that own their memory
// Whether the buffer that had this serial still exists: command buffers need not retain what they use.
bool soft_is_alive(uint64_t serial);

// A loaded kernel library, shared by the objects made from it.
struct SoftKernels {
  msl_library* library = nullptr;
  uint64_t key = 0;  // of its source
  ~SoftKernels();
};

@interface SoftFunction : SoftObject <MTLFunction> {
 @public
  std::shared_ptr<SoftKernels> kernels_;
  const msl_kernel* kernel_;
  std::map<int, std::string> constants_;
}
// Tells functions apart: library, kernel, constants.
- (std::string)key;
@end

@interface SoftPipeline : SoftObject <MTLComputePipelineState> {
 @public
  SoftFunction* function_;
  bool whole_simdgroups_;  // threadGroupSizeIsMultipleOfThreadExecutionWidth
  NSUInteger max_threads_;
}
@end

@interface SoftLibrary : SoftObject <MTLLibrary> {
 @public
  std::shared_ptr<SoftKernels> kernels_;
}
@end
id<MTLLibrary> soft_compile(NSString* source, MTLCompileOptions* options, NSError** error);
// A compiled library of this device: a line that says so, and the text.
id<MTLLibrary> soft_library_at(NSURL* url, NSError** error);
id<MTLComputePipelineState> soft_pipeline(MTLComputePipelineDescriptor* descriptor, MTLPipelineOption options, NSError** error);

@interface SoftComputePipelineDescriptor : MTLComputePipelineDescriptor {
 @public
  NSString* label_;
  SoftFunction* function_;
  BOOL whole_simdgroups_;
  NSUInteger max_threads_;
  NSArray* archives_;
}
@end

@interface SoftArchive : SoftObject <MTLBinaryArchive> {
 @public
  std::map<std::string, bool>* keys_;
}
@end
id<MTLBinaryArchive> soft_archive(MTLBinaryArchiveDescriptor* descriptor, NSError** error);
bool soft_archive_has(id<MTLBinaryArchive> archive, const std::string& key);

@interface SoftEvent : SoftObject <MTLSharedEvent> {
 @public
  std::atomic<uint64_t> value_;
  std::vector<std::pair<uint64_t, void (^)(id<MTLSharedEvent>, uint64_t)>>* listeners_;  // with the queue's mutex held
}
- (void)reach:(uint64_t)value;
@end

// What a command buffer does, step by step; a step returns what went wrong.
using SoftStep = std::function<std::string()>;

@interface SoftCommandBuffer : SoftObject <MTLCommandBuffer> {
 @public
  SoftQueue* queue_;
  std::vector<SoftStep>* steps_;
  std::vector<MTLCommandBufferHandler>* scheduled_;
  std::vector<MTLCommandBufferHandler>* completed_;
  std::vector<id>* retained_;  // unless the command buffer holds unretained references
  bool retains_;
  std::atomic<MTLCommandBufferStatus> status_;  // set after what it tells of: error_, start_, end_
  bool done_;  // and its completed handlers have returned: what waitUntilCompleted waits for
  NSError* error_;
  bool encoding_;
  bool traces_;  // an error tells of encoders
  std::vector<std::pair<NSString*, size_t>>* encoders_;  // labels, retained, and where their steps end
  double start_, end_;
}
- (void)run;
- (void)endEncoder:(NSString*)label;
- (void)use:(id)object;
- (void)addStep:(SoftStep)step;
@end

@interface SoftQueue : SoftObject <MTLCommandQueue>
@end
// Runs what was committed until the condition holds or nothing is left; with SOFT_METAL_TIMING=thread, waits for it.
bool soft_run_until(const std::function<bool()>& condition, double seconds);
void soft_commit(SoftCommandBuffer* buffer);
// A step forward for a program that polls.
void soft_polled();

struct SoftComputeState;
@interface SoftComputeEncoder : SoftObject <MTLComputeCommandEncoder> {
  struct SoftComputeState* state_;
}
- (id)initWith:(SoftCommandBuffer*)buffer type:(MTLDispatchType)type pass:(MTLComputePassDescriptor*)pass;
@end

@interface SoftBlitEncoder : SoftObject <MTLBlitCommandEncoder> {
  SoftCommandBuffer* buffer_;
  bool ended_;
}
- (id)initWith:(SoftCommandBuffer*)buffer;
@end

@interface SoftSampleBuffer : SoftObject <MTLCounterSampleBuffer> {
 @public
  std::vector<uint64_t>* samples_;
}
@end
NSArray* soft_counter_sets(void);
id<MTLCounterSampleBuffer> soft_sample_buffer(MTLCounterSampleBufferDescriptor* descriptor, NSError** error);
// The steps that take a pass's first and last sample; empty functions where it has none.
void soft_pass_samples(MTLComputePassDescriptor* pass, SoftCommandBuffer* buffer, SoftStep& start, SoftStep& end);
uint64_t soft_now(void);  // nanoseconds

@interface SoftHeap : SoftObject <MTLHeap> {
 @public
  NSUInteger size_;
  MTLResourceOptions options_;
  char* bytes_;
  std::map<NSUInteger, NSUInteger>* used_;  // offset to end
}
- (void)give:(NSUInteger)offset;
@end
id<MTLHeap> soft_heap(MTLHeapDescriptor* descriptor);

// For tests, through ctypes.
extern "C" {
int soft_metal_live_objects(void);
// "class: count" lines of what is alive.
const char* soft_metal_live_report(void);
void soft_metal_fail_command_buffer(int n, int code);
void soft_metal_fail_allocation(int n);
int soft_metal_pending_allocation(void);  // 0: it has failed
void soft_metal_set_seed(int seed);
// Asked first for the library of each source: 1 and its path in `out`, 0 and the compiler's message, or -1: as usual.
typedef int (*soft_metal_compile)(const char* source, char* out, size_t size);
void soft_metal_set_compiler(soft_metal_compile compile);
// Libraries loaded from files so far.
int soft_metal_loaded_libraries(void);
}
