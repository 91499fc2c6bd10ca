// Dawn's C functions, looked up at run time, and owning handles of its objects.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "dawn_webgpu.h"  // generated: cmake/generate_dawn_header.py

namespace rwkvnative::webgpu {

#define RWKVNATIVE_DAWN_FUNCTIONS(X)                                                                                       \
  X(CreateInstance)                                                                                                        \
  X(InstanceRelease) X(InstanceRequestAdapter) X(InstanceWaitAny) X(InstanceHasWGSLLanguageFeature) X(AdapterGetInfo)      \
      X(AdapterGetLimits) X(AdapterHasFeature) X(AdapterRequestDevice) X(AdapterRelease) X(AdapterInfoFreeMembers)         \
          X(AdapterPropertiesMemoryHeapsFreeMembers) X(AdapterPropertiesSubgroupMatrixConfigsFreeMembers) X(DeviceGetQueue) X(DeviceRelease) X(DeviceDestroy)                   \
              X(DeviceCreateBuffer) X(DeviceCreateBindGroup) X(DeviceCreateBindGroupLayout) X(DeviceCreatePipelineLayout)  \
                  X(DeviceCreateShaderModule) X(DeviceCreateComputePipeline) X(DeviceCreateCommandEncoder)            \
                      X(DeviceCreateQuerySet) X(DevicePushErrorScope) X(DevicePopErrorScope) X(DeviceGetLimits)            \
                          X(QueueSubmit) X(QueueWriteBuffer) X(QueueOnSubmittedWorkDone) X(QueueRelease) X(BufferMapAsync) \
                              X(BufferGetMappedRange) X(BufferGetConstMappedRange) X(BufferUnmap) X(BufferDestroy)         \
                                  X(BufferRelease) X(BindGroupRelease) X(BindGroupLayoutRelease) X(PipelineLayoutRelease)  \
                                      X(ShaderModuleRelease) X(ShaderModuleGetCompilationInfo) X(ComputePipelineRelease)   \
                                          X(CommandBufferRelease) X(QuerySetRelease) X(CommandEncoderBeginComputePass)     \
                                              X(CommandEncoderClearBuffer) X(CommandEncoderCopyBufferToBuffer)             \
                                                  X(CommandEncoderFinish) X(CommandEncoderRelease)                         \
                                                      X(CommandEncoderResolveQuerySet) X(ComputePassEncoderSetPipeline)    \
                                                          X(ComputePassEncoderSetBindGroup)                                \
                                                              X(ComputePassEncoderDispatchWorkgroups)                      \
                                                                  X(ComputePassEncoderEnd) X(ComputePassEncoderRelease)

// The functions of one Dawn library, without their prefix: dawn().QueueSubmit(...).
struct Dawn {
#define RWKVNATIVE_MEMBER(name) decltype(&wgpu##name) name = nullptr;
  RWKVNATIVE_DAWN_FUNCTIONS(RWKVNATIVE_MEMBER)
#undef RWKVNATIVE_MEMBER
  // Dawn's own, for tests, declared in no header; or null.
  void (*DeviceForceLoss)(WGPUDevice, WGPUDeviceLostReason, WGPUStringView) = nullptr;
  // The wheel's own addition, or null: fills up to `capacity` adapters, returns how many there are.
  size_t (*enumerate_adapters)(WGPUInstance, const WGPURequestAdapterOptions*, WGPUAdapter*, size_t capacity) = nullptr;
};

// Loads Dawn the first time. Throws DeviceError saying where it was looked for.
const Dawn& dawn();

inline WGPUStringView view(std::string_view text) { return {text.data(), text.size()}; }
inline std::string text(WGPUStringView view) {
  if (view.data == nullptr) return {};
  return view.length == WGPU_STRLEN ? std::string(view.data) : std::string(view.data, view.length);
}

// Owns one reference to a Dawn object.
template <class T, auto Dawn::* Release>
class Handle {
 public:
  Handle() = default;
  explicit Handle(T raw) : raw_(raw) {}
  Handle(Handle&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  ~Handle() {
    if (raw_ != nullptr) (dawn().*Release)(raw_);
  }
  T get() const { return raw_; }
  explicit operator bool() const { return raw_ != nullptr; }

 private:
  T raw_ = nullptr;
};

using InstanceHandle = Handle<WGPUInstance, &Dawn::InstanceRelease>;
using AdapterHandle = Handle<WGPUAdapter, &Dawn::AdapterRelease>;
using DeviceHandle = Handle<WGPUDevice, &Dawn::DeviceRelease>;
using QueueHandle = Handle<WGPUQueue, &Dawn::QueueRelease>;
using BufferHandle = Handle<WGPUBuffer, &Dawn::BufferRelease>;
using BindGroupHandle = Handle<WGPUBindGroup, &Dawn::BindGroupRelease>;
using BindGroupLayoutHandle = Handle<WGPUBindGroupLayout, &Dawn::BindGroupLayoutRelease>;
using PipelineLayoutHandle = Handle<WGPUPipelineLayout, &Dawn::PipelineLayoutRelease>;
using ShaderModuleHandle = Handle<WGPUShaderModule, &Dawn::ShaderModuleRelease>;
using PipelineHandle = Handle<WGPUComputePipeline, &Dawn::ComputePipelineRelease>;
using CommandBufferHandle = Handle<WGPUCommandBuffer, &Dawn::CommandBufferRelease>;
using EncoderHandle = Handle<WGPUCommandEncoder, &Dawn::CommandEncoderRelease>;
using PassHandle = Handle<WGPUComputePassEncoder, &Dawn::ComputePassEncoderRelease>;
using QuerySetHandle = Handle<WGPUQuerySet, &Dawn::QuerySetRelease>;

}  // namespace rwkvnative::webgpu
