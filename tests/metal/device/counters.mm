// Timestamps of passes: the counter set that every Mac has.
#include "soft.h"

#include <chrono>
#include <cstring>

MTLCommonCounter const MTLCommonCounterTimestamp = @"GPUTimestamp";
MTLCommonCounterSet const MTLCommonCounterSetTimestamp = @"timestamp";

uint64_t soft_now(void) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}

@interface SoftCounter : NSObject <MTLCounter>
@end
@implementation SoftCounter
- (NSString*)name {
  return MTLCommonCounterTimestamp;
}
@end

@interface SoftCounterSet : NSObject <MTLCounterSet>
@end
@implementation SoftCounterSet
- (NSString*)name {
  return MTLCommonCounterSetTimestamp;
}
- (NSArray*)counters {
  return [NSArray arrayWithObject:[[[SoftCounter alloc] init] autorelease]];
}
@end

NSArray* soft_counter_sets(void) { return [NSArray arrayWithObject:[[[SoftCounterSet alloc] init] autorelease]]; }

// ---------------------------------------------------------------- sample buffers

@interface SoftSampleDescriptor : MTLCounterSampleBufferDescriptor {
 @public
  id<MTLCounterSet> set_;
  NSUInteger count_;
  MTLStorageMode mode_;
  NSString* label_;
}
@end

@implementation MTLCounterSampleBufferDescriptor
+ (id)allocWithZone:(NSZone*)zone {
  return self == [MTLCounterSampleBufferDescriptor class] ? [SoftSampleDescriptor allocWithZone:zone] : [super allocWithZone:zone];
}
@end

@implementation SoftSampleDescriptor
- (id)init {
  if ((self = [super init])) {
    soft_count("MTLCounterSampleBufferDescriptor", 1);
    mode_ = MTLStorageModePrivate;
  }
  return self;
}
- (void)dealloc {
  soft_count("MTLCounterSampleBufferDescriptor", -1);
  [set_ release];
  [label_ release];
  [super dealloc];
}
- (void)setCounterSet:(id<MTLCounterSet>)set {
  [set_ autorelease];
  set_ = [set retain];
}
- (void)setSampleCount:(NSUInteger)count {
  count_ = count;
}
- (void)setStorageMode:(MTLStorageMode)mode {
  mode_ = mode;
}
- (void)setLabel:(NSString*)label {
  [label_ autorelease];
  label_ = [label copy];
}
@end

@implementation SoftSampleBuffer
- (id)init {
  if ((self = [super init])) samples_ = new std::vector<uint64_t>;
  return self;
}
- (void)dealloc {
  delete samples_;
  [super dealloc];
}
- (NSUInteger)sampleCount {
  return samples_->size();
}
- (NSData*)resolveCounterRange:(NSRange)range {
  SOFT_CHECK(range.location + range.length <= samples_->size(), "resolveCounterRange: %lu samples from %lu of %zu", (unsigned long)range.length, (unsigned long)range.location, samples_->size());
  static_assert(sizeof(MTLCounterResultTimestamp) == sizeof(uint64_t));
  return [NSData dataWithBytes:samples_->data() + range.location length:range.length * sizeof(uint64_t)];
}
@end

id<MTLCounterSampleBuffer> soft_sample_buffer(MTLCounterSampleBufferDescriptor* descriptor, NSError** error) {
  auto* d = static_cast<SoftSampleDescriptor*>(descriptor);
  const auto fail = [&](const char* text) -> id<MTLCounterSampleBuffer> {
    if (error) *error = soft_error(@"MTLCounterErrorDomain", MTLCounterSampleBufferErrorInvalid, text);
    return nil;
  };
  if (soft_options().sampling == "none") return fail("this device has no counters");
  if (!d->set_) return fail("no counter set");
  if (d->count_ == 0 || d->count_ > 4096) return fail("a sample buffer holds 1 to 4096 samples");
  SOFT_CHECK(d->mode_ == MTLStorageModeShared, "samples that resolveCounterRange: reads are shared");
  SoftSampleBuffer* buffer = [[SoftSampleBuffer alloc] init];
  // What was never sampled, on Apple's GPUs.
  buffer->samples_->assign(d->count_, 0);
  return buffer;
}

// ---------------------------------------------------------------- samples of a pass

@class SoftAttachment;

@interface SoftPassDescriptor : MTLComputePassDescriptor {
 @public
  MTLDispatchType type_;
  id attachments_;
}
@end

@interface SoftAttachments : MTLComputePassSampleBufferAttachmentDescriptorArray {
 @public
  SoftAttachment* attachments_[4];
}
@end

@interface SoftAttachment : MTLComputePassSampleBufferAttachmentDescriptor {
 @public
  SoftSampleBuffer* buffer_;
  NSUInteger start_, end_;
}
@end

@implementation MTLComputePassSampleBufferAttachmentDescriptor
@end
@implementation MTLComputePassSampleBufferAttachmentDescriptorArray
@end
@implementation MTLComputePassDescriptor
+ (id)allocWithZone:(NSZone*)zone {
  return self == [MTLComputePassDescriptor class] ? [SoftPassDescriptor allocWithZone:zone] : [super allocWithZone:zone];
}
+ (MTLComputePassDescriptor*)computePassDescriptor {
  return [[[MTLComputePassDescriptor alloc] init] autorelease];
}
@end

@implementation SoftAttachment
- (void)dealloc {
  [buffer_ release];
  [super dealloc];
}
- (void)setSampleBuffer:(id<MTLCounterSampleBuffer>)buffer {
  [buffer_ autorelease];
  buffer_ = [(SoftSampleBuffer*)buffer retain];
}
- (void)setStartOfEncoderSampleIndex:(NSUInteger)index {
  start_ = index;
}
- (void)setEndOfEncoderSampleIndex:(NSUInteger)index {
  end_ = index;
}
@end

@implementation SoftAttachments
- (void)dealloc {
  for (SoftAttachment* a : attachments_) [a release];
  [super dealloc];
}
- (MTLComputePassSampleBufferAttachmentDescriptor*)objectAtIndexedSubscript:(NSUInteger)index {
  SOFT_CHECK(index < 4, "sample attachment %lu, there are 4", (unsigned long)index);
  if (!attachments_[index]) attachments_[index] = [[SoftAttachment alloc] init];
  return attachments_[index];
}
@end

@implementation SoftPassDescriptor
- (id)init {
  if ((self = [super init])) {
    soft_count("MTLComputePassDescriptor", 1);
    attachments_ = [[SoftAttachments alloc] init];
  }
  return self;
}
- (void)dealloc {
  soft_count("MTLComputePassDescriptor", -1);
  [attachments_ release];
  [super dealloc];
}
- (void)setDispatchType:(MTLDispatchType)type {
  type_ = type;
}
- (MTLDispatchType)dispatchType {
  return type_;
}
- (MTLComputePassSampleBufferAttachmentDescriptorArray*)sampleBufferAttachments {
  return attachments_;
}
@end

namespace {

// Two passes can take samples into one buffer, so a sample that is not wanted has an index of its own.
SoftStep sample(SoftSampleBuffer* buffer, NSUInteger index) {
  if (index == MTLCounterDontSample) return {};
  SOFT_CHECK(index < buffer->samples_->size(), "sample %lu of %zu", (unsigned long)index, buffer->samples_->size());
  return [buffer, index]() -> std::string {
    (*buffer->samples_)[index] = soft_now();
    return "";
  };
}

}  // namespace

void soft_pass_samples(MTLComputePassDescriptor* pass, SoftCommandBuffer* buffer, SoftStep& start, SoftStep& end) {
  auto* attachments = static_cast<SoftAttachments*>([pass sampleBufferAttachments]);
  for (int i = 0; i < 4; i++) {
    SoftAttachment* a = attachments->attachments_[i];
    if (!a || !a->buffer_) continue;
    SOFT_CHECK(i == 0, "one sample attachment is emulated");
    SOFT_CHECK(soft_options().sampling == "stage", "this device takes no samples at the boundaries of passes");
    [buffer use:a->buffer_];
    start = sample(a->buffer_, a->start_);
    end = sample(a->buffer_, a->end_);
  }
}
