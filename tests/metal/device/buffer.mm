// Buffers and heaps.
#include "soft.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>

namespace {
std::mutex g_mutex;
std::set<uint64_t> g_alive;
std::atomic<uint64_t> g_serial{0};
std::atomic<int64_t> g_bytes{0};
}  // namespace

NSUInteger soft_allocated_bytes() { return static_cast<NSUInteger>(g_bytes.load()); }
void soft_owns(int64_t bytes) { g_bytes += bytes; }

bool soft_is_alive(uint64_t serial) {
  std::lock_guard lock(g_mutex);
  return g_alive.count(serial) != 0;
}

@implementation SoftBuffer
- (id)init {
  if ((self = [super init])) {
    serial_ = ++g_serial;
    std::lock_guard lock(g_mutex);
    g_alive.insert(serial_);
  }
  return self;
}
- (void)dealloc {
  {
    std::lock_guard lock(g_mutex);
    g_alive.erase(serial_);
  }
  msl_forget(bytes_, length_);
  if (deallocator_) {
    deallocator_(bytes_, length_);
    Block_release(deallocator_);
  } else if (owned_) {
    soft_owns(-static_cast<int64_t>(length_));
    free(bytes_);
  }
  if (heap_) {
    [heap_ give:heap_offset_];
    [heap_ release];
  }
  [super dealloc];
}
- (bool)isPrivate {
  return (options_ & MTLResourceStorageModePrivate) != 0;
}
- (void*)contents {
  SOFT_CHECK(![self isPrivate], "contents of a private buffer (%s)", label_ ? [label_ UTF8String] : "no label");
  return bytes_;
}
- (NSUInteger)length {
  return length_;
}
- (NSUInteger)allocatedSize {
  return length_;
}
- (uint64_t)gpuAddress {
  return reinterpret_cast<uint64_t>(bytes_);
}
- (MTLStorageMode)storageMode {
  return [self isPrivate] ? MTLStorageModePrivate : MTLStorageModeShared;
}
- (MTLResourceOptions)resourceOptions {
  return options_;
}
- (id<MTLHeap>)heap {
  return heap_;
}
- (void)didModifyRange:(NSRange)range {
  (void)range;
  soft_stop("didModifyRange: of a buffer that is not managed");
}
@end

// ---------------------------------------------------------------- heaps

@interface SoftHeapDescriptor : MTLHeapDescriptor {
 @public
  NSUInteger size_;
  MTLStorageMode mode_;
  MTLHazardTrackingMode tracking_;
}
@end

@implementation MTLHeapDescriptor
+ (id)allocWithZone:(NSZone*)zone {
  return self == [MTLHeapDescriptor class] ? [SoftHeapDescriptor allocWithZone:zone] : [super allocWithZone:zone];
}
@end

@implementation SoftHeapDescriptor
- (id)init {
  if ((self = [super init])) {
    soft_count("MTLHeapDescriptor", 1);
    mode_ = MTLStorageModePrivate;
  }
  return self;
}
- (void)dealloc {
  soft_count("MTLHeapDescriptor", -1);
  [super dealloc];
}
- (void)setSize:(NSUInteger)size {
  size_ = size;
}
- (NSUInteger)size {
  return size_;
}
- (void)setStorageMode:(MTLStorageMode)mode {
  SOFT_CHECK(mode == MTLStorageModePrivate || mode == MTLStorageModeShared, "a heap is private or shared");
  mode_ = mode;
}
- (MTLStorageMode)storageMode {
  return mode_;
}
- (void)setHazardTrackingMode:(MTLHazardTrackingMode)tracking {
  tracking_ = tracking;
}
- (void)setResourceOptions:(MTLResourceOptions)options {
  mode_ = options & MTLResourceStorageModePrivate ? MTLStorageModePrivate : MTLStorageModeShared;
}
@end

id<MTLHeap> soft_heap(MTLHeapDescriptor* descriptor) {
  auto* d = static_cast<SoftHeapDescriptor*>(descriptor);
  SOFT_CHECK(d->size_ > 0, "a heap of no bytes");
  void* bytes = nullptr;
  if (posix_memalign(&bytes, kPage, d->size_)) return nil;
  memset(bytes, 0xff, d->size_);
  SoftHeap* heap = [[SoftHeap alloc] init];
  heap->size_ = d->size_;
  heap->bytes_ = static_cast<char*>(bytes);
  heap->options_ = d->mode_ == MTLStorageModePrivate ? MTLResourceStorageModePrivate : MTLResourceStorageModeShared;
  return heap;
}

@implementation SoftHeap
- (id)init {
  if ((self = [super init])) used_ = new std::map<NSUInteger, NSUInteger>;
  return self;
}
- (void)dealloc {
  delete used_;
  free(bytes_);
  [super dealloc];
}
- (NSUInteger)size {
  return size_;
}
- (NSUInteger)usedSize {
  NSUInteger sum = 0;
  for (const auto& [begin, end] : *used_) sum += end - begin;
  return sum;
}
- (NSUInteger)maxAvailableSizeWithAlignment:(NSUInteger)alignment {
  NSUInteger best = 0, begin = 0;
  const auto consider = [&](NSUInteger end) {
    const NSUInteger aligned = (begin + alignment - 1) / alignment * alignment;
    if (end > aligned) best = std::max(best, end - aligned);
  };
  for (const auto& [from, to] : *used_) {
    consider(from);
    begin = to;
  }
  consider(size_);
  return best;
}
- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
  SOFT_CHECK(length > 0, "newBufferWithLength: of no bytes");
  SOFT_CHECK((options & MTLResourceStorageModePrivate) == (options_ & MTLResourceStorageModePrivate), "a heap's buffer has the storage mode of the heap");
  const NSUInteger size = (length + 255) / 256 * 256;
  NSUInteger begin = 0;
  for (const auto& [from, to] : *used_) {
    if (from >= begin + size) break;
    begin = to;
  }
  if (begin + size > size_) return nil;
  (*used_)[begin] = begin + size;
  memset(bytes_ + begin, 0xff, size);
  SoftBuffer* buffer = [[SoftBuffer alloc] init];
  buffer->bytes_ = bytes_ + begin;
  buffer->length_ = length;
  buffer->options_ = options;
  buffer->heap_ = [self retain];
  buffer->heap_offset_ = begin;
  return buffer;
}
- (void)give:(NSUInteger)offset {
  used_->erase(offset);
}
@end
