// The command queue and its command buffers.
//
// A GPU may start at once or late. By default this one starts when somebody waits, so that a result read too early is not
// there, and an input overwritten too early is gone; with SOFT_METAL_TIMING=thread work runs on a thread of its own as soon
// as it is committed, and handlers are called from there, as on a Mac. The thread ends before the process does: what is
// being run at exit runs to its end, what has not begun never runs.
#include "soft.h"

#import <Foundation/NSThread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <set>
#include <thread>

namespace {

struct Work {
  std::mutex running;  // held while a command buffer runs: of two threads that wait, one runs it
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<SoftCommandBuffer*> committed;  // retained
  std::thread thread;
  bool stopping = false;  // the thread is to end
  std::atomic<int> polls = 0;
};

Work& work() {
  static auto* work = new Work;
  return *work;
}

// One command buffer at a time, in the order of commits. False if there was none.
bool run_next() {
  std::lock_guard running(work().running);
  SoftCommandBuffer* next = nil;
  {
    std::lock_guard lock(work().mutex);
    if (work().committed.empty()) return false;
    next = work().committed.front();
  }
  @autoreleasepool {
    [next run];
  }
  {
    std::lock_guard lock(work().mutex);
    work().committed.pop_front();
    next->done_ = true;
  }
  work().changed.notify_all();
  [next release];
  return true;
}

void run_all() {
  GSRegisterCurrentThread();
  for (;;) {
    {
      std::unique_lock lock(work().mutex);
      work().changed.wait(lock, [] { return work().stopping || !work().committed.empty(); });
      if (work().stopping) break;
    }
    run_next();
  }
  GSUnregisterCurrentThread();
}

// A thread that outlived main() would run code and free objects whose libraries are gone.
void stop_thread() {
  {
    std::lock_guard lock(work().mutex);
    work().stopping = true;
  }
  work().changed.notify_all();
  if (work().thread.get_id() == std::this_thread::get_id())  // a handler calls exit()
    work().thread.detach();
  else
    work().thread.join();
}

// With work().mutex held.
void start_thread() {
  if (work().thread.joinable() || work().stopping) return;
  work().thread = std::thread(run_all);
  std::atexit(stop_thread);
}

}  // namespace

void soft_commit(SoftCommandBuffer* buffer) {
  std::lock_guard lock(work().mutex);
  work().committed.push_back([buffer retain]);
  if (soft_options().thread) start_thread();
  work().changed.notify_all();
}

bool soft_run_until(const std::function<bool()>& condition, double seconds) {
  if (!soft_options().thread) {
    while (!condition())
      if (!run_next()) return condition();  // another thread may have run the last one
    return true;
  }
  std::unique_lock lock(work().mutex);
  return work().changed.wait_for(lock, std::chrono::duration<double>(seconds), condition);
}

// A program that polls must get there in the end.
void soft_polled() {
  if (!soft_options().thread && ++work().polls % 8 == 0) run_next();
}

// ---------------------------------------------------------------- what an error tells of encoders

NSString* const MTLCommandBufferEncoderInfoErrorKey = @"MTLCommandBufferEncoderInfoErrorKey";

@interface SoftEncoderInfo : SoftObject <MTLCommandBufferEncoderInfo> {
 @public
  MTLCommandEncoderErrorState state_;
}
@end
@implementation SoftEncoderInfo
- (MTLCommandEncoderErrorState)errorState {
  return state_;
}
- (NSArray*)debugSignposts {
  return [NSArray array];
}
@end

@interface SoftCommandBufferDescriptor : MTLCommandBufferDescriptor {
 @public
  BOOL retains_;
  MTLCommandBufferErrorOption options_;
}
@end

@implementation MTLCommandBufferDescriptor
+ (id)allocWithZone:(NSZone*)zone {
  return self == [MTLCommandBufferDescriptor class] ? [SoftCommandBufferDescriptor allocWithZone:zone] : [super allocWithZone:zone];
}
@end

@implementation SoftCommandBufferDescriptor
- (id)init {
  if ((self = [super init])) {
    soft_count("MTLCommandBufferDescriptor", 1);
    retains_ = YES;
  }
  return self;
}
- (void)dealloc {
  soft_count("MTLCommandBufferDescriptor", -1);
  [super dealloc];
}
- (void)setRetainedReferences:(BOOL)retains {
  retains_ = retains;
}
- (void)setErrorOptions:(MTLCommandBufferErrorOption)options {
  options_ = options;
}
@end

@implementation SoftQueue
- (id<MTLCommandBuffer>)commandBufferWithDescriptor:(MTLCommandBufferDescriptor*)descriptor {
  auto* d = static_cast<SoftCommandBufferDescriptor*>(descriptor);
  SoftCommandBuffer* buffer = [self commandBuffer];
  buffer->retains_ = d->retains_;
  buffer->traces_ = (d->options_ & MTLCommandBufferErrorOptionEncoderExecutionStatus) != 0;
  return buffer;
}
- (id<MTLCommandBuffer>)commandBuffer {
  SoftCommandBuffer* buffer = [[SoftCommandBuffer alloc] init];
  buffer->queue_ = [self retain];
  buffer->retains_ = true;
  return [buffer autorelease];
}
- (id<MTLCommandBuffer>)commandBufferWithUnretainedReferences {
  SoftCommandBuffer* buffer = [self commandBuffer];
  buffer->retains_ = false;
  return buffer;
}
@end

@implementation SoftCommandBuffer
- (id)init {
  if ((self = [super init])) {
    steps_ = new std::vector<SoftStep>;
    scheduled_ = new std::vector<MTLCommandBufferHandler>;
    completed_ = new std::vector<MTLCommandBufferHandler>;
    retained_ = new std::vector<id>;
    encoders_ = new std::vector<std::pair<NSString*, size_t>>;
  }
  return self;
}
- (void)dealloc {
  SOFT_CHECK(!encoding_, "a command buffer died with an open encoder");
  delete steps_;
  for (auto handler : *scheduled_) Block_release(handler);
  for (auto handler : *completed_) Block_release(handler);
  delete scheduled_;
  delete completed_;
  for (id object : *retained_) [object release];
  delete retained_;
  for (auto& [label, end] : *encoders_) [label release];
  delete encoders_;
  [error_ release];
  [queue_ release];
  [super dealloc];
}

// ---- encoding

- (void)open {
  SOFT_CHECK(!encoding_, "a new encoder while another one is open");
  SOFT_CHECK(status_ == MTLCommandBufferStatusNotEnqueued || status_ == MTLCommandBufferStatusEnqueued, "a new encoder after commit");
  encoding_ = true;
}
- (id<MTLComputeCommandEncoder>)computeCommandEncoder {
  return [self computeCommandEncoderWithDispatchType:MTLDispatchTypeSerial];
}
- (id<MTLComputeCommandEncoder>)computeCommandEncoderWithDispatchType:(MTLDispatchType)type {
  [self open];
  return [[[SoftComputeEncoder alloc] initWith:self type:type pass:nil] autorelease];
}
- (id<MTLComputeCommandEncoder>)computeCommandEncoderWithDescriptor:(MTLComputePassDescriptor*)pass {
  [self open];
  return [[[SoftComputeEncoder alloc] initWith:self type:[pass dispatchType] pass:pass] autorelease];
}
- (id<MTLBlitCommandEncoder>)blitCommandEncoder {
  [self open];
  return [[[SoftBlitEncoder alloc] initWith:self] autorelease];
}
- (void)endEncoder:(NSString*)label {
  encoders_->push_back({[label copy], steps_->size()});
  encoding_ = false;
}
- (void)use:(id)object {
  if (retains_) retained_->push_back([object retain]);
}
- (void)addStep:(SoftStep)step {
  steps_->push_back(std::move(step));
}
- (void)encodeSignalEvent:(id<MTLEvent>)event value:(uint64_t)value {
  SOFT_CHECK(!encoding_, "encodeSignalEvent: while an encoder is open");
  SOFT_CHECK(status_ < MTLCommandBufferStatusCommitted, "encodeSignalEvent: after commit");
  SoftEvent* e = (SoftEvent*)event;
  [self use:e];
  [self addStep:[e, value]() -> std::string {
    [e reach:value];
    return "";
  }];
}
- (void)encodeWaitForEvent:(id<MTLEvent>)event value:(uint64_t)value {
  SOFT_CHECK(!encoding_, "encodeWaitForEvent: while an encoder is open");
  SoftEvent* e = (SoftEvent*)event;
  [self use:e];
  [self addStep:[e, value]() -> std::string {
    for (int ms = 0; ms < 5000 && e->value_ < value; ms++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return e->value_ >= value ? "" : "timeout: nobody signalled the event that the command buffer waits for";
  }];
}

// ---- running

- (void)enqueue {
  SOFT_CHECK(status_ == MTLCommandBufferStatusNotEnqueued, "enqueue twice");
  status_ = MTLCommandBufferStatusEnqueued;
}
- (void)addScheduledHandler:(MTLCommandBufferHandler)handler {
  SOFT_CHECK(status_ < MTLCommandBufferStatusCommitted, "addScheduledHandler: after commit");
  scheduled_->push_back(Block_copy(handler));
}
- (void)addCompletedHandler:(MTLCommandBufferHandler)handler {
  SOFT_CHECK(status_ < MTLCommandBufferStatusCommitted, "addCompletedHandler: after commit");
  completed_->push_back(Block_copy(handler));
}
- (void)commit {
  SOFT_CHECK(!encoding_, "commit with an open encoder");
  SOFT_CHECK(status_ < MTLCommandBufferStatusCommitted, "commit twice");
  status_ = MTLCommandBufferStatusCommitted;
  soft_use_pool();
  soft_commit(self);
}
- (void)failWith:(NSInteger)code text:(const std::string&)text step:(size_t)step {
  NSMutableArray* infos = traces_ ? [NSMutableArray array] : nil;
  bool before = true;
  for (const auto& [label, end] : *encoders_) {
    SoftEncoderInfo* info = [[[SoftEncoderInfo alloc] init] autorelease];
    [info setLabel:label];
    info->state_ = end <= step ? MTLCommandEncoderErrorStateCompleted : before ? MTLCommandEncoderErrorStateFaulted : MTLCommandEncoderErrorStatePending;
    before = before && end <= step;
    [infos addObject:info];
  }
  error_ = [soft_error(@"MTLCommandBufferErrorDomain", code, text, infos) retain];
}
- (void)run {
  for (auto handler : *scheduled_) handler(self);
  start_ = soft_now() * 1e-9;
  SoftFaults& faults = soft_faults();
  const bool fault = faults.command_buffer > 0 && --faults.command_buffer == 0;
  if (fault) [self failWith:faults.command_buffer_code text:"ordered by a test" step:steps_->size() / 2];
  for (size_t i = 0; i < steps_->size() && !error_; i++) {
    const std::string problem = (*steps_)[i]();
    if (!problem.empty()) [self failWith:MTLCommandBufferErrorPageFault text:problem step:i];
  }
  steps_->clear();
  end_ = soft_now() * 1e-9;
  {
    std::lock_guard lock(work().mutex);
    status_ = error_ ? MTLCommandBufferStatusError : MTLCommandBufferStatusCompleted;
  }
  for (auto handler : *completed_) handler(self);
}
- (void)waitUntilCompleted {
  SOFT_CHECK(status_ >= MTLCommandBufferStatusCommitted, "waitUntilCompleted before commit");
  soft_use_pool();
  const bool done = soft_run_until([&] { return done_; }, 600);
  SOFT_CHECK(done, "waitUntilCompleted: it never did");
}
- (void)waitUntilScheduled {
  SOFT_CHECK(status_ >= MTLCommandBufferStatusCommitted, "waitUntilScheduled before commit");
}
- (MTLCommandBufferStatus)status {
  if (status_ == MTLCommandBufferStatusCommitted) soft_polled();
  return status_;
}
- (NSError*)error {
  return error_;
}
- (BOOL)retainedReferences {
  return retains_;
}
- (id<MTLCommandQueue>)commandQueue {
  return queue_;
}
- (CFTimeInterval)GPUStartTime {
  return start_;
}
- (CFTimeInterval)GPUEndTime {
  return end_;
}
- (CFTimeInterval)kernelStartTime {
  return start_;
}
- (CFTimeInterval)kernelEndTime {
  return end_;
}
- (void)pushDebugGroup:(NSString*)name {
  (void)name;
}
- (void)popDebugGroup {
}
@end

// ---------------------------------------------------------------- events

@implementation SoftEvent
- (id)init {
  if ((self = [super init])) listeners_ = new std::vector<std::pair<uint64_t, void (^)(id<MTLSharedEvent>, uint64_t)>>;
  return self;
}
- (void)dealloc {
  for (auto& [value, block] : *listeners_) Block_release(block);
  delete listeners_;
  [super dealloc];
}
- (uint64_t)signaledValue {
  soft_polled();
  return value_;
}
- (void)setSignaledValue:(uint64_t)value {
  [self reach:value];
}
- (void)reach:(uint64_t)value {
  SOFT_CHECK(value >= value_, "an event's value goes back from %lu to %lu", (unsigned long)value_, (unsigned long)value);
  std::vector<void (^)(id<MTLSharedEvent>, uint64_t)> reached;
  {
    std::lock_guard lock(work().mutex);
    value_ = value;
    std::erase_if(*listeners_, [&](const auto& listener) {
      if (listener.first > value) return false;
      reached.push_back(listener.second);
      return true;
    });
  }
  work().changed.notify_all();
  for (auto block : reached) {
    block(self, value);
    Block_release(block);
  }
}
- (BOOL)waitUntilSignaledValue:(uint64_t)value timeoutMS:(uint64_t)milliseconds {
  soft_use_pool();
  return soft_run_until([&] { return value_ >= value; }, static_cast<double>(milliseconds) * 1e-3);
}
- (void)notifyListener:(MTLSharedEventListener*)listener atValue:(uint64_t)value block:(void (^)(id<MTLSharedEvent>, uint64_t))block {
  (void)listener;
  {
    std::lock_guard lock(work().mutex);
    if (value_ < value) {
      listeners_->push_back({value, Block_copy(block)});
      return;
    }
  }
  block(self, value_);
}
@end
