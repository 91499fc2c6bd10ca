// The part of Metal.h that metal-cpp expresses in C++ only: C structs, inline functions. The rest is generated.
#pragma once
#include <limits.h>
#include <stdint.h>
#ifdef __APPLE__
#include <mach/mach.h>
#else
typedef struct soft_dispatch_queue* dispatch_queue_t;
typedef struct soft_dispatch_data* dispatch_data_t;
typedef int kern_return_t;
typedef unsigned task_id_token_t;
#endif
typedef double CFTimeInterval;
typedef void* IOSurfaceRef;
#ifndef NSUIntegerMax
#define NSUIntegerMax UINTPTR_MAX
#endif

typedef struct {
  NSUInteger width, height, depth;
} MTLSize;
typedef struct {
  NSUInteger x, y, z;
} MTLOrigin;
typedef struct {
  MTLOrigin origin;
  MTLSize size;
} MTLRegion;
typedef struct {
  uint64_t _impl;
} MTLResourceID;
typedef struct {
  float x, y;
} MTLSamplePosition;
typedef MTLSamplePosition MTLCoordinate2D;
typedef struct {
  double red, green, blue, alpha;
} MTLClearColor;
typedef struct {
  double originX, originY, width, height, znear, zfar;
} MTLViewport;
typedef struct {
  NSUInteger x, y, width, height;
} MTLScissorRect;
typedef struct {
  NSUInteger size, align;
} MTLSizeAndAlign;
typedef struct {
  NSUInteger accelerationStructureSize, buildScratchBufferSize, refitScratchBufferSize;
} MTLAccelerationStructureSizes;
typedef struct {
  uint8_t red, green, blue, alpha;
} MTLTextureSwizzleChannels;
typedef struct {
  uint32_t viewportArrayIndexOffset, renderTargetArrayIndexOffset;
} MTLVertexAmplificationViewMapping;
typedef struct {
  uint32_t location, length;
} MTLIndirectCommandBufferExecutionRange;
typedef struct {
  uint64_t timestamp;
} MTLCounterResultTimestamp;
typedef struct {
  uint64_t bufferAddress, length;
} MTL4BufferRange;

static inline MTLSize MTLSizeMake(NSUInteger width, NSUInteger height, NSUInteger depth) {
  MTLSize size = {width, height, depth};
  return size;
}

typedef NSString *MTLCommonCounter, *MTLCommonCounterSet, *MTLDeviceNotificationName;
@class MTLComputePipelineReflection, MTLRenderPipelineReflection, MTL4ComputePipelineReflection;
typedef MTLComputePipelineReflection* MTLAutoreleasedComputePipelineReflection;
typedef MTLRenderPipelineReflection* MTLAutoreleasedRenderPipelineReflection;
