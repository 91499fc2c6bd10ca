// Compute and blit encoders: they record what the command buffer does when it runs.
#include "soft.h"

#include <cstring>
#include <memory>

namespace {

constexpr int kBindings = 31;

// One entry of the argument table.
struct Binding {
  SoftBuffer* buffer = nil;
  uint64_t serial = 0;
  NSUInteger offset = 0;
  std::string bytes;  // setBytes
};

// What a dispatch needs when it runs.
struct Dispatch {
  SoftPipeline* pipeline = nil;
  Binding bindings[kBindings];
  msl_dispatch_args args{};
};

// Running state of a compute encoder: the point since which accesses of its dispatches are not ordered.
struct Ordering {
  bool concurrent = false;
  uint64_t mark = 0;
  bool works = false;  // it has a dispatch; else the driver drops the encoder, and takes no samples
};

uint32_t whole(NSUInteger n, NSUInteger unit) { return static_cast<uint32_t>((n + unit - 1) / unit); }

// Threadgroups, threads, function constants.
std::string shape(const Dispatch& d) {
  std::string text;
  for (const uint32_t* size : {d.args.groups, d.args.threads})
    text += std::to_string(size[0]) + 'x' + std::to_string(size[1]) + 'x' + std::to_string(size[2]) + ' ';
  for (const auto& [index, value] : d.pipeline->function_->constants_) {
    uint32_t number = 0;
    memcpy(&number, value.data(), std::min(value.size(), sizeof number));
    text += ' ' + std::to_string(index) + '=' + std::to_string(number);
  }
  return text;
}

std::string run(Dispatch& d, Ordering& ordering) {
  if (!ordering.concurrent) ordering.mark = msl_mark();
  msl_dispatch_args& a = d.args;
  for (int i = 0; i < kBindings; i++) {
    Binding& b = d.bindings[i];
    if (!b.bytes.empty()) {
      a.buffers[i] = {b.bytes.data(), b.bytes.size(), ordering.mark};
    } else if (b.buffer) {
      SOFT_CHECK(soft_is_alive(b.serial), "kernel %s runs with buffer %d, which was released meanwhile", msl_kernel_name(d.pipeline->function_->kernel_), i);
      a.buffers[i] = {b.buffer->bytes_ + b.offset, b.buffer->length_ - b.offset, ordering.mark};
    }
  }
  a.workers = soft_options().workers;
  a.seed = soft_options().seed;
  a.check = soft_options().check;
  SoftFunction* function = d.pipeline->function_;
  for (const auto& [index, value] : function->constants_) msl_set_constant(function->kernels_->library, index, value.data());
  if (!soft_options().dispatches.empty()) soft_ran(d.pipeline->label_ ? [d.pipeline->label_ UTF8String] : "", shape(d));
  char error[2000];
  return msl_dispatch(function->kernels_->library, function->kernel_, &a, error, sizeof error) ? error : "";
}

}  // namespace

// What a compute encoder records with. Here, not in soft.h: nobody else sees it.
struct SoftComputeState {
  SoftCommandBuffer* buffer = nil;
  bool ended = false;
  SoftPipeline* pipeline = nil;
  Binding bindings[kBindings];
  size_t threadgroup_bytes[kBindings] = {};
  std::shared_ptr<Ordering> ordering = std::make_shared<Ordering>();
  SoftStep end_sample;
};

@implementation SoftComputeEncoder
- (id)initWith:(SoftCommandBuffer*)buffer type:(MTLDispatchType)type pass:(MTLComputePassDescriptor*)pass {
  if (!(self = [super init])) return nil;
  state_ = new SoftComputeState;
  state_->buffer = [buffer retain];
  auto ordering = state_->ordering;
  ordering->concurrent = type == MTLDispatchTypeConcurrent;
  SoftStep start;
  if (pass) soft_pass_samples(pass, buffer, start, state_->end_sample);
  if (start) [buffer addStep:[ordering, start] { return ordering->works ? start() : std::string(); }];
  // Encoders are ordered: the memory of all resources here is tracked by the driver.
  [buffer addStep:[ordering]() -> std::string {
    ordering->mark = msl_mark();
    return "";
  }];
  return self;
}
- (void)dealloc {
  SOFT_CHECK(state_->ended, "a compute encoder died without endEncoding");
  [state_->buffer release];
  delete state_;
  [super dealloc];
}
- (void)open {
  SOFT_CHECK(!state_->ended, "a compute encoder is used after endEncoding");
}

// ---- the argument table

- (void)setComputePipelineState:(id<MTLComputePipelineState>)pipeline {
  [self open];
  SOFT_CHECK(pipeline, "setComputePipelineState: nil");
  state_->pipeline = (SoftPipeline*)pipeline;
  [state_->buffer use:pipeline];
}
- (void)checkBuffer:(SoftBuffer*)buffer offset:(NSUInteger)offset index:(NSUInteger)index {
  [self open];
  SOFT_CHECK(index < kBindings, "buffer index %lu, there are 31", (unsigned long)index);
  if (!buffer) return;
  SOFT_CHECK(offset < buffer->length_, "buffer %lu: offset %lu is not inside of its %lu bytes", (unsigned long)index, (unsigned long)offset, (unsigned long)buffer->length_);
  SOFT_CHECK(offset % 4 == 0, "buffer %lu: offset %lu is not a multiple of 4", (unsigned long)index, (unsigned long)offset);
}
- (void)setBuffer:(id<MTLBuffer>)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)index {
  SoftBuffer* b = (SoftBuffer*)buffer;
  [self checkBuffer:b offset:offset index:index];
  state_->bindings[index] = {b, b ? b->serial_ : 0, offset, ""};
  if (b) [state_->buffer use:b];
}
- (void)setBuffers:(const id<MTLBuffer>*)buffers offsets:(const NSUInteger*)offsets withRange:(NSRange)range {
  for (NSUInteger i = 0; i < range.length; i++) [self setBuffer:buffers[i] offset:offsets[i] atIndex:range.location + i];
}
- (void)setBufferOffset:(NSUInteger)offset atIndex:(NSUInteger)index {
  SOFT_CHECK(index < kBindings && state_->bindings[index].buffer, "setBufferOffset: nothing is bound to index %lu", (unsigned long)index);
  [self checkBuffer:state_->bindings[index].buffer offset:offset index:index];
  state_->bindings[index].offset = offset;
}
- (void)setBytes:(const void*)bytes length:(NSUInteger)length atIndex:(NSUInteger)index {
  [self open];
  SOFT_CHECK(index < kBindings, "buffer index %lu, there are 31", (unsigned long)index);
  SOFT_CHECK(length > 0 && length <= 4096, "setBytes: %lu bytes, expected 1..4096", (unsigned long)length);
  state_->bindings[index] = {nil, 0, 0, std::string(static_cast<const char*>(bytes), length)};
}
- (void)setThreadgroupMemoryLength:(NSUInteger)length atIndex:(NSUInteger)index {
  [self open];
  SOFT_CHECK(index < kBindings && length % 16 == 0, "threadgroup memory %lu: %lu bytes, expected a multiple of 16", (unsigned long)index, (unsigned long)length);
  state_->threadgroup_bytes[index] = length;
}

// ---- dispatches

- (void)dispatch:(MTLSize)groups threads:(MTLSize)threads exact:(const MTLSize*)exact {
  [self open];
  SOFT_CHECK(state_->pipeline, "a dispatch without a pipeline");
  SoftPipeline* pipeline = state_->pipeline;
  const char* name = msl_kernel_name(pipeline->function_->kernel_);
  const NSUInteger n = threads.width * threads.height * threads.depth;
  SOFT_CHECK(groups.width && groups.height && groups.depth, "kernel %s: an empty grid", name);
  SOFT_CHECK(n > 0 && n <= pipeline->max_threads_, "kernel %s: %lu threads in a threadgroup, its pipeline allows %lu", name, (unsigned long)n, (unsigned long)pipeline->max_threads_);
  SOFT_CHECK(!pipeline->whole_simdgroups_ || n % 32 == 0, "kernel %s: %lu threads are not whole simdgroups, as its pipeline demands", name, (unsigned long)n);
  auto d = std::make_shared<Dispatch>();
  d->pipeline = pipeline;
  size_t memory = 0;
  for (int i = 0; i < kBindings; i++) {
    d->bindings[i] = state_->bindings[i];
    const int uses = msl_kernel_uses(pipeline->function_->kernel_, 0, i);
    SOFT_CHECK(!uses || d->bindings[i].buffer || !d->bindings[i].bytes.empty(), "kernel %s: nothing is bound to its buffer %d", name, i);
    SOFT_CHECK(uses != 1 || d->bindings[i].bytes.empty(), "kernel %s: buffer %d is written, setBytes gave it", name, i);
    d->args.threadgroup_bytes[i] = state_->threadgroup_bytes[i];
    memory += state_->threadgroup_bytes[i];
    SOFT_CHECK(!state_->threadgroup_bytes[i] || msl_kernel_uses(pipeline->function_->kernel_, 1, i), "kernel %s: %zu bytes are set as its threadgroup memory %d, which it has not", name, state_->threadgroup_bytes[i], i);
    SOFT_CHECK(!msl_kernel_uses(pipeline->function_->kernel_, 1, i) || state_->threadgroup_bytes[i], "kernel %s: the length of its threadgroup memory %d is not set", name, i);
  }
  SOFT_CHECK(memory <= 32768, "kernel %s: %zu bytes of threadgroup memory", name, memory);
  const NSUInteger sizes[3][3] = {{groups.width, groups.height, groups.depth}, {threads.width, threads.height, threads.depth},
                                  {exact ? exact->width : 0, exact ? exact->height : 0, exact ? exact->depth : 0}};
  for (int c = 0; c < 3; c++) {
    d->args.groups[c] = static_cast<uint32_t>(sizes[0][c]);
    d->args.threads[c] = static_cast<uint32_t>(sizes[1][c]);
    d->args.exact[c] = static_cast<uint32_t>(sizes[2][c]);
  }
  auto ordering = state_->ordering;
  ordering->works = true;
  [state_->buffer addStep:[d, ordering] { return run(*d, *ordering); }];
}
- (void)dispatchThreadgroups:(MTLSize)groups threadsPerThreadgroup:(MTLSize)threads {
  [self dispatch:groups threads:threads exact:nullptr];
}
- (void)dispatchThreads:(MTLSize)grid threadsPerThreadgroup:(MTLSize)threads {
  SOFT_CHECK(threads.width && threads.height && threads.depth, "an empty threadgroup");
  const MTLSize groups = MTLSizeMake(whole(grid.width, threads.width), whole(grid.height, threads.height), whole(grid.depth, threads.depth));
  [self dispatch:groups threads:threads exact:&grid];
}
- (void)memoryBarrierWithScope:(MTLBarrierScope)scope {
  [self open];
  SOFT_CHECK(state_->ordering->concurrent, "a memory barrier in a serial encoder does nothing");
  if (!(scope & MTLBarrierScopeBuffers)) return;
  auto ordering = state_->ordering;
  [state_->buffer addStep:[ordering]() -> std::string {
    ordering->mark = msl_mark();
    return "";
  }];
}
- (void)memoryBarrierWithResources:(const id<MTLResource>*)resources count:(NSUInteger)count {
  (void)resources;
  (void)count;
  soft_stop("memoryBarrierWithResources: is not emulated");
}
- (void)sampleCountersInBuffer:(id<MTLCounterSampleBuffer>)samples atSampleIndex:(NSUInteger)index withBarrier:(BOOL)barrier {
  [self open];
  SOFT_CHECK(soft_options().sampling == "dispatch", "this device takes no samples between dispatches");
  SoftSampleBuffer* s = (SoftSampleBuffer*)samples;
  SOFT_CHECK(index < s->samples_->size(), "sample %lu of %zu", (unsigned long)index, s->samples_->size());
  auto ordering = state_->ordering;
  [state_->buffer use:s];
  [state_->buffer addStep:[=]() -> std::string {
    (*s->samples_)[index] = soft_now();
    if (barrier) ordering->mark = msl_mark();
    return "";
  }];
}
- (void)endEncoding {
  [self open];
  state_->ended = true;
  if (state_->end_sample && state_->ordering->works) [state_->buffer addStep:state_->end_sample];
  [state_->buffer endEncoder:label_];
}
- (void)pushDebugGroup:(NSString*)name {
  (void)name;
}
- (void)popDebugGroup {
}
- (void)insertDebugSignpost:(NSString*)name {
  (void)name;
}
@end

// ---------------------------------------------------------------- blit

@implementation SoftBlitEncoder
- (id)initWith:(SoftCommandBuffer*)buffer {
  if ((self = [super init])) buffer_ = [buffer retain];
  return self;
}
- (void)dealloc {
  SOFT_CHECK(ended_, "a blit encoder died without endEncoding");
  [buffer_ release];
  [super dealloc];
}
- (void)copyFromBuffer:(id<MTLBuffer>)source
          sourceOffset:(NSUInteger)from
              toBuffer:(id<MTLBuffer>)destination
     destinationOffset:(NSUInteger)to
                  size:(NSUInteger)size {
  SoftBuffer *s = (SoftBuffer*)source, *d = (SoftBuffer*)destination;
  SOFT_CHECK(!ended_, "a blit encoder is used after endEncoding");
  SOFT_CHECK(s && d, "copyFromBuffer: nil");
  SOFT_CHECK(size > 0 && from + size <= s->length_ && to + size <= d->length_, "copyFromBuffer: %lu bytes from %lu of %lu to %lu of %lu", (unsigned long)size, (unsigned long)from, (unsigned long)s->length_, (unsigned long)to, (unsigned long)d->length_);
  SOFT_CHECK(from % 4 == 0 && to % 4 == 0 && size % 4 == 0, "copyFromBuffer: offsets and size must be multiples of 4 on a Mac");
  SOFT_CHECK(s != d || from + size <= to || to + size <= from, "copyFromBuffer: source and destination overlap");
  [buffer_ use:s];
  [buffer_ use:d];
  const uint64_t serials[2] = {s->serial_, d->serial_};
  [buffer_ addStep:[=]() -> std::string {
    SOFT_CHECK(soft_is_alive(serials[0]) && soft_is_alive(serials[1]), "a blit runs on a buffer that was released meanwhile");
    memcpy(d->bytes_ + to, s->bytes_ + from, size);
    return "";
  }];
}
- (void)fillBuffer:(id<MTLBuffer>)buffer range:(NSRange)range value:(uint8_t)value {
  SoftBuffer* b = (SoftBuffer*)buffer;
  SOFT_CHECK(!ended_, "a blit encoder is used after endEncoding");
  SOFT_CHECK(b && range.length > 0 && range.location + range.length <= b->length_, "fillBuffer: %lu bytes at %lu", (unsigned long)range.length, (unsigned long)range.location);
  SOFT_CHECK(range.location % 4 == 0 && range.length % 4 == 0, "fillBuffer: location and length must be multiples of 4 on a Mac");
  [buffer_ use:b];
  const uint64_t serial = b->serial_;
  [buffer_ addStep:[=]() -> std::string {
    SOFT_CHECK(soft_is_alive(serial), "a fill runs on a buffer that was released meanwhile");
    memset(b->bytes_ + range.location, value, range.length);
    return "";
  }];
}
- (void)endEncoding {
  SOFT_CHECK(!ended_, "endEncoding twice");
  ended_ = true;
  buffer_->encoding_ = false;
}
- (void)pushDebugGroup:(NSString*)name {
  (void)name;
}
- (void)popDebugGroup {
}
@end
