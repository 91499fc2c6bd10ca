// Uses of Metal, right ones and mistakes, one for each name that is given: what the software device says to them is
// checked by test_metal_device.py. Written as for macOS.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr const char* kSource = R"(#include <metal_stdlib>
using namespace metal;
constant uint kFactor [[function_constant(0)]];
kernel void scale(device const float* in [[buffer(0)]], device float* out [[buffer(1)]], uint i [[thread_position_in_grid]]) {
  out[i] = in[i] * kFactor;
})";
constexpr NSUInteger kCount = 64;

struct Setup {
  id<MTLDevice> device = MTLCreateSystemDefaultDevice();
  id<MTLCommandQueue> queue = [device newCommandQueue];
  id<MTLLibrary> library = nil;
  id<MTLComputePipelineState> pipeline = nil;
  id<MTLBuffer> in = [device newBufferWithLength:kCount * 4 options:MTLResourceStorageModeShared];
  id<MTLBuffer> out = [device newBufferWithLength:kCount * 4 options:MTLResourceStorageModeShared];

  Setup() {
    NSError* error = nil;
    library = [device newLibraryWithSource:[NSString stringWithUTF8String:kSource] options:nil error:&error];
    id<MTLFunction> function = constant(2, MTLDataTypeUInt, &error);
    pipeline = [device newComputePipelineStateWithFunction:function error:&error];
    [function release];
    for (NSUInteger i = 0; i < kCount; i++) static_cast<float*>([in contents])[i] = i;
  }
  ~Setup() {
    for (id object : {(id)pipeline, (id)library, (id)in, (id)out, (id)queue, (id)device}) [object release];
  }
  id<MTLFunction> constant(uint32_t value, MTLDataType type, NSError** error) const {
    MTLFunctionConstantValues* values = [[MTLFunctionConstantValues alloc] init];
    [values setConstantValue:&value type:type atIndex:0];
    id<MTLFunction> function = [library newFunctionWithName:@"scale" constantValues:values error:error];
    [values release];
    return function;
  }
  void dispatch(id<MTLComputeCommandEncoder> encoder, id<MTLBuffer> from, id<MTLBuffer> to) const {
    [encoder setComputePipelineState:pipeline];
    [encoder setBuffer:from offset:0 atIndex:0];
    [encoder setBuffer:to offset:0 atIndex:1];
    [encoder dispatchThreads:MTLSizeMake(kCount, 1, 1) threadsPerThreadgroup:MTLSizeMake(32, 1, 1)];
  }
  id<MTLCommandBuffer> two(bool barrier) const {
    id<MTLCommandBuffer> commands = [queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    dispatch(encoder, in, out);
    if (barrier) [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
    dispatch(encoder, out, in);
    [encoder endEncoding];
    return commands;
  }
};

void finish(id<MTLCommandBuffer> commands) {
  [commands commit];
  [commands waitUntilCompleted];
  printf("status %d %s\n", (int)[commands status], [commands error] ? [[[commands error] localizedDescription] UTF8String] : "");
}

void run(const std::string& name) {
  Setup s;
  NSError* error = nil;
  id<MTLCommandBuffer> commands = [s.queue commandBuffer];
  if (name == "barrier" || name == "no barrier") {
    finish(s.two(name == "barrier"));
    printf("value %g\n", static_cast<float*>([s.in contents])[3]);
  } else if (name == "not waited for") {
    id<MTLCommandBuffer> work = s.two(true);
    [work commit];
    printf("value %g\n", static_cast<float*>([s.in contents])[3]);
    [work waitUntilCompleted];
    printf("value %g\n", static_cast<float*>([s.in contents])[3]);
  } else if (name == "event and handler") {
    id<MTLSharedEvent> event = [s.device newSharedEvent];
    __block int handled = 0;
    id<MTLCommandBuffer> work = s.two(true);
    [work encodeSignalEvent:event value:7];
    [work addCompletedHandler:^(id<MTLCommandBuffer> done) {
      handled = (int)[done status];
    }];
    [work commit];
    const bool reached = [event waitUntilSignaledValue:7 timeoutMS:600000];
    [work waitUntilCompleted];
    printf("reached %d value %d handler %d\n", reached, (int)[event signaledValue], handled);
    [event release];
  } else if (name == "no copy") {
    char* const mapped = static_cast<char*>(mmap(nullptr, 32768, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0));
    char* const pages = mapped + (16384 - reinterpret_cast<uintptr_t>(mapped) % 16384) % 16384;
    id<MTLBuffer> buffer = [s.device newBufferWithBytesNoCopy:pages length:16384 options:MTLResourceStorageModeShared
                                                  deallocator:^(void* p, NSUInteger n) {
                                                    printf("deallocated %d\n", (int)n);
                                                    munmap(p, n);
                                                  }];
    printf("same %d\n", [buffer contents] == pages);
    [buffer release];
  } else if (name == "heap") {
    MTLHeapDescriptor* descriptor = [[MTLHeapDescriptor alloc] init];
    [descriptor setSize:65536];
    [descriptor setStorageMode:MTLStorageModeShared];
    id<MTLHeap> heap = [s.device newHeapWithDescriptor:descriptor];
    id<MTLBuffer> first = [heap newBufferWithLength:40000 options:MTLResourceStorageModeShared];
    id<MTLBuffer> second = [heap newBufferWithLength:40000 options:MTLResourceStorageModeShared];
    printf("first %d second %d free %d\n", first != nil, second != nil, (int)[heap maxAvailableSizeWithAlignment:256]);
    [first release];
    printf("free %d\n", (int)[heap maxAvailableSizeWithAlignment:256]);
    [heap release];
    [descriptor release];
  } else if (name == "archive") {
    MTLBinaryArchiveDescriptor* descriptor = [[MTLBinaryArchiveDescriptor alloc] init];
    id<MTLBinaryArchive> archive = [s.device newBinaryArchiveWithDescriptor:descriptor error:&error];
    MTLComputePipelineDescriptor* pipeline = [[MTLComputePipelineDescriptor alloc] init];
    id<MTLFunction> function = s.constant(5, MTLDataTypeUInt, &error);
    [pipeline setComputeFunction:function];
    [pipeline setBinaryArchives:[NSArray arrayWithObject:archive]];
    for (int added = 0; added < 2; added++) {
      id<MTLComputePipelineState> made = [s.device newComputePipelineStateWithDescriptor:pipeline
                                                                                 options:MTLPipelineOptionFailOnBinaryArchiveMiss
                                                                              reflection:nullptr
                                                                                   error:&error];
      printf("added %d made %d\n", added, made != nil);
      [made release];
      [archive addComputePipelineFunctionsWithDescriptor:pipeline error:&error];
    }
    for (id object : {(id)function, (id)pipeline, (id)archive, (id)descriptor}) [object release];
  } else if (name == "timestamps") {
    MTLCounterSampleBufferDescriptor* descriptor = [[MTLCounterSampleBufferDescriptor alloc] init];
    [descriptor setCounterSet:[[s.device counterSets] objectAtIndex:0]];
    [descriptor setStorageMode:MTLStorageModeShared];
    [descriptor setSampleCount:2];
    id<MTLCounterSampleBuffer> samples = [s.device newCounterSampleBufferWithDescriptor:descriptor error:&error];
    MTLComputePassDescriptor* pass = [MTLComputePassDescriptor computePassDescriptor];
    MTLComputePassSampleBufferAttachmentDescriptor* attachment = [[pass sampleBufferAttachments] objectAtIndexedSubscript:0];
    [attachment setSampleBuffer:samples];
    [attachment setStartOfEncoderSampleIndex:0];
    [attachment setEndOfEncoderSampleIndex:1];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoderWithDescriptor:pass];
    s.dispatch(encoder, s.in, s.out);
    [encoder endEncoding];
    finish(commands);
    uint64_t times[2];
    memcpy(times, [[samples resolveCounterRange:NSMakeRange(0, 2)] bytes], sizeof times);
    printf("later %d\n", times[1] > times[0]);
    [samples release];
    [descriptor release];
  } else if (name == "constant of another type") {
    printf("function %d: %s\n", s.constant(1, MTLDataTypeFloat, &error) != nil, [[error localizedDescription] UTF8String]);
  } else if (name == "no constant") {
    printf("function %d\n", [s.library newFunctionWithName:@"scale"] != nil);
  } else if (name == "bad source") {
    id<MTLLibrary> none = [s.device newLibraryWithSource:@"kernel void f(device float* x [[buffer(0)]]) {\n  x[0] = y;\n}" options:nil error:&error];
    printf("library %d: %s\n", none != nil, [[error localizedDescription] UTF8String]);
  } else if (name == "leak") {
    [s.out retain];
  } else if (name == "commit twice") {
    [commands commit];
    [commands commit];
  } else if (name == "commit while encoding") {
    [commands computeCommandEncoder];
    [commands commit];
  } else if (name == "wait before commit") {
    [commands waitUntilCompleted];
  } else if (name == "released too early") {
    id<MTLBuffer> gone = [s.device newBufferWithLength:kCount * 4 options:MTLResourceStorageModeShared];
    id<MTLCommandBuffer> work = [s.queue commandBufferWithUnretainedReferences];
    id<MTLComputeCommandEncoder> encoder = [work computeCommandEncoder];
    s.dispatch(encoder, s.in, gone);
    [encoder endEncoding];
    [gone release];
    finish(work);
  } else if (name == "private contents") {
    printf("%p\n", [[s.device newBufferWithLength:16 options:MTLResourceStorageModePrivate] contents]);
  } else if (name == "pages of malloc") {
    void* pages = nullptr;
    if (posix_memalign(&pages, 16384, 16384)) abort();
    [s.device newBufferWithBytesNoCopy:pages length:16384 options:MTLResourceStorageModeShared deallocator:nil];
  } else if (name == "unaligned pages") {
    [s.device newBufferWithBytesNoCopy:reinterpret_cast<void*>(16384 + 4096) length:16384 options:MTLResourceStorageModeShared deallocator:nil];
  } else {
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    if (name != "no pipeline") [encoder setComputePipelineState:s.pipeline];
    [encoder setBuffer:s.in offset:name == "offset" ? 2 : 0 atIndex:0];
    if (name == "setBytes for results") {
      float value = 0;
      [encoder setBytes:&value length:sizeof value atIndex:1];
    } else if (name != "nothing bound") {
      [encoder setBuffer:s.out offset:0 atIndex:1];
    }
    if (name == "memory left over") [encoder setThreadgroupMemoryLength:64 atIndex:0];
    if (name == "serial barrier") [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
    [encoder dispatchThreadgroups:MTLSizeMake(1, 1, 1) threadsPerThreadgroup:MTLSizeMake(name == "too many threads" ? 2048 : 32, 1, 1)];
    if (name == "two encoders") [commands blitCommandEncoder];
    [encoder endEncoding];
    id<MTLBlitCommandEncoder> blit = [commands blitCommandEncoder];
    [blit copyFromBuffer:s.in sourceOffset:0 toBuffer:s.out destinationOffset:name == "copy beyond the end" ? 4 : 0 size:kCount * 4];
    [blit endEncoding];
    finish(commands);
  }
}

}  // namespace

int main(int, char** arguments) {
  @autoreleasepool {
    run(arguments[1]);
  }
  return 0;
}
