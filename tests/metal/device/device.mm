// The device: what it says of itself, and what it makes.
#include "soft.h"

#include <cstring>

@interface SoftDevice : SoftObject <MTLDevice>
@end

namespace {
bool is_apple() { return soft_options().device != "intel"; }

// Whether a part of this memory is of the heap or a stack. (What malloc gives by mmap is not seen here.)
bool of_malloc(const void* bytes, NSUInteger length) {
  FILE* maps = fopen("/proc/self/maps", "r");
  if (!maps) return false;
  const auto first = reinterpret_cast<uintptr_t>(bytes);
  char line[512];
  bool found = false;
  while (!found && fgets(line, sizeof line, maps)) {
    uintptr_t begin = 0, end = 0;
    if (sscanf(line, "%lx-%lx", &begin, &end) != 2 || end <= first || begin >= first + length) continue;
    found = strstr(line, "[heap]") || strstr(line, "[stack]");
  }
  fclose(maps);
  return found;
}
}  // namespace

@implementation SoftDevice
- (NSString*)name {
  return is_apple() ? @"software Metal device" : @"software Metal device, Intel's kind";
}
- (uint64_t)registryID {
  return 1;
}
- (BOOL)hasUnifiedMemory {
  return is_apple();
}
- (BOOL)isLowPower {
  return !is_apple();
}
- (BOOL)isRemovable {
  return NO;
}
- (BOOL)isHeadless {
  return YES;
}
- (BOOL)supportsFamily:(MTLGPUFamily)family {
  if (family >= MTLGPUFamilyCommon1 && family <= MTLGPUFamilyCommon3) return YES;
  if (family == MTLGPUFamilyMac2) return YES;
  if (family == MTLGPUFamilyMetal3) return soft_options().device != "macos 12";
  return is_apple() && family >= MTLGPUFamilyApple1 && family <= MTLGPUFamilyApple8;
}
- (NSUInteger)maxThreadgroupMemoryLength {
  return 32768;
}
- (MTLSize)maxThreadsPerThreadgroup {
  return MTLSizeMake(1024, 1024, 1024);
}
- (NSUInteger)maxBufferLength {
  return soft_options().max_buffer;
}
- (uint64_t)recommendedMaxWorkingSetSize {
  return soft_options().working_set;
}
- (NSUInteger)currentAllocatedSize {
  soft_use_pool();
  return soft_allocated_bytes();
}

// ---- buffers and heaps

- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
  SOFT_CHECK(length > 0, "newBufferWithLength: of no bytes");
  SOFT_CHECK(length <= soft_options().max_buffer, "newBufferWithLength:%lu is more than maxBufferLength", (unsigned long)length);
  const NSUInteger mode = options & (MTLResourceStorageModePrivate | MTLResourceStorageModeManaged);
  SOFT_CHECK(mode == 0 || mode == MTLResourceStorageModePrivate, "only shared and private buffers are emulated");
  if (soft_faults().allocation > 0 && --soft_faults().allocation == 0) return nil;
  void* bytes = nullptr;
  if (posix_memalign(&bytes, kPage, length)) return nil;
  // Metal says that it clears the bytes. NaNs instead: whoever counts on zeros had better write them.
  memset(bytes, 0xff, length);
  SoftBuffer* buffer = [[SoftBuffer alloc] init];
  buffer->bytes_ = static_cast<char*>(bytes);
  buffer->length_ = length;
  buffer->options_ = options;
  buffer->owned_ = true;
  soft_owns(static_cast<int64_t>(length));
  return buffer;
}
- (id<MTLBuffer>)newBufferWithBytes:(const void*)bytes length:(NSUInteger)length options:(MTLResourceOptions)options {
  SOFT_CHECK((options & MTLResourceStorageModePrivate) == 0, "newBufferWithBytes: of a private buffer");
  SoftBuffer* buffer = [self newBufferWithLength:length options:options];
  if (buffer) memcpy(buffer->bytes_, bytes, length);
  return buffer;
}
- (id<MTLBuffer>)newBufferWithBytesNoCopy:(const void*)bytes
                                   length:(NSUInteger)length
                                  options:(MTLResourceOptions)options
                              deallocator:(void (^)(void*, NSUInteger))deallocator {
  SOFT_CHECK(reinterpret_cast<uintptr_t>(bytes) % kPage == 0, "newBufferWithBytesNoCopy: %p is not at a page of %lu bytes", bytes, (unsigned long)kPage);
  SOFT_CHECK(!of_malloc(bytes, length), "newBufferWithBytesNoCopy: %p is malloc's, which Metal does not take", bytes);
  SOFT_CHECK(length > 0 && length % kPage == 0, "newBufferWithBytesNoCopy: %lu bytes are not whole pages of %lu", (unsigned long)length, (unsigned long)kPage);
  SOFT_CHECK(length <= soft_options().max_buffer, "newBufferWithBytesNoCopy: %lu bytes are more than maxBufferLength", (unsigned long)length);
  SOFT_CHECK((options & MTLResourceStorageModePrivate) == 0, "newBufferWithBytesNoCopy: of a private buffer");
  if (soft_faults().allocation > 0 && --soft_faults().allocation == 0) return nil;
  SoftBuffer* buffer = [[SoftBuffer alloc] init];
  buffer->bytes_ = static_cast<char*>(const_cast<void*>(bytes));
  buffer->length_ = length;
  buffer->options_ = options;
  if (deallocator) buffer->deallocator_ = Block_copy(deallocator);
  return buffer;
}
- (id<MTLHeap>)newHeapWithDescriptor:(MTLHeapDescriptor*)descriptor {
  return soft_heap(descriptor);
}
- (MTLSizeAndAlign)heapBufferSizeAndAlignWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
  (void)options;
  return {(length + 255) / 256 * 256, 256};
}

// ---- programs

- (id<MTLLibrary>)newLibraryWithSource:(NSString*)source options:(MTLCompileOptions*)options error:(NSError**)error {
  return soft_compile(source, options, error);
}
- (id<MTLLibrary>)newLibraryWithURL:(NSURL*)url error:(NSError**)error {
  return soft_library_at(url, error);
}
- (id<MTLComputePipelineState>)newComputePipelineStateWithFunction:(id<MTLFunction>)function error:(NSError**)error {
  MTLComputePipelineDescriptor* descriptor = [[MTLComputePipelineDescriptor alloc] init];
  [descriptor setComputeFunction:function];
  id<MTLComputePipelineState> pipeline = soft_pipeline(descriptor, MTLPipelineOptionNone, error);
  [descriptor release];
  return pipeline;
}
- (id<MTLComputePipelineState>)newComputePipelineStateWithDescriptor:(MTLComputePipelineDescriptor*)descriptor
                                                             options:(MTLPipelineOption)options
                                                          reflection:(const MTLAutoreleasedComputePipelineReflection*)reflection
                                                               error:(NSError**)error {
  SOFT_CHECK(reflection == nullptr, "reflection is not emulated");
  return soft_pipeline(descriptor, options, error);
}
- (id<MTLBinaryArchive>)newBinaryArchiveWithDescriptor:(MTLBinaryArchiveDescriptor*)descriptor error:(NSError**)error {
  return soft_archive(descriptor, error);
}

// ---- queues, events, counters

- (id<MTLCommandQueue>)newCommandQueue {
  return [[SoftQueue alloc] init];
}
- (id<MTLCommandQueue>)newCommandQueueWithMaxCommandBufferCount:(NSUInteger)count {
  SOFT_CHECK(count > 0, "newCommandQueueWithMaxCommandBufferCount:0");
  return [[SoftQueue alloc] init];
}
- (id<MTLSharedEvent>)newSharedEvent {
  return [[SoftEvent alloc] init];
}
- (id<MTLEvent>)newEvent {
  return [[SoftEvent alloc] init];
}
- (NSArray*)counterSets {
  return soft_options().sampling == "none" ? [NSArray array] : soft_counter_sets();
}
- (BOOL)supportsCounterSampling:(MTLCounterSamplingPoint)point {
  if (soft_options().sampling == "stage") return point == MTLCounterSamplingPointAtStageBoundary;
  if (soft_options().sampling == "dispatch") return point == MTLCounterSamplingPointAtDispatchBoundary || point == MTLCounterSamplingPointAtBlitBoundary;
  return NO;
}
- (id<MTLCounterSampleBuffer>)newCounterSampleBufferWithDescriptor:(MTLCounterSampleBufferDescriptor*)descriptor error:(NSError**)error {
  return soft_sample_buffer(descriptor, error);
}
- (void)sampleTimestamps:(uint64_t*)cpu gpuTimestamp:(uint64_t*)gpu {
  *cpu = *gpu = soft_now();
}
@end

id<MTLDevice> MTLCreateSystemDefaultDevice(void) {
  soft_use_pool();
  const bool has_default = soft_options().device != "none" && soft_options().device != "ssh";
  return has_default ? [[SoftDevice alloc] init] : nil;
}

NSArray* MTLCopyAllDevices(void) {
  soft_use_pool();
  id<MTLDevice> device = soft_options().device == "none" ? nil : [[SoftDevice alloc] init];
  NSArray* devices = device ? [[NSArray alloc] initWithObjects:&device count:1] : [[NSArray alloc] init];
  [device release];
  return devices;
}
