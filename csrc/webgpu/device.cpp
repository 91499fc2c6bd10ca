#include "webgpu/device.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"
#include "webgpu/instance.h"
#include "webgpu/pipelines.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint64_t kMinBinding = 1 << 16;
// NVIDIA's; the null adapter has the feature and no shape.
constexpr MatrixShape kNullMatrix = {16, 16, 16, 32};
constexpr uint32_t kNullWorkgroupStorage = 48 << 10;

// What every kernel counts on; WebGPU's default limits grant it.
void require(const WGPULimits& limits, const DeviceInfo& info) {
  struct Need {
    const char* name;
    uint64_t has, needs;
  };
  for (const Need& need :
       {Need{"maxStorageBuffersPerShaderStage", limits.maxStorageBuffersPerShaderStage, kMostBuffers},
        Need{"maxComputeInvocationsPerWorkgroup", limits.maxComputeInvocationsPerWorkgroup, 256},
        Need{"maxComputeWorkgroupStorageSize", limits.maxComputeWorkgroupStorageSize, 16384},
        Need{"maxDynamicStorageBuffersPerPipelineLayout", limits.maxDynamicStorageBuffersPerPipelineLayout, 1}}) {
    if (need.has < need.needs) {
      throw DeviceError(message("[webgpu] ", info.name, ": ", need.name, " is ", need.has, ", expected at least ",
                                need.needs, "; use another device"));
    }
  }
}

// The largest f16 product with f32 sums whose subgroups have one known size, or nothing.
std::optional<MatrixShape> matrix_shape(WGPUAdapter adapter) {
  if (!dawn().AdapterHasFeature(adapter,
                                static_cast<WGPUFeatureName>(WGPUFeatureName_ChromiumExperimentalSubgroupMatrix))) {
    return std::nullopt;
  }
  WGPUAdapterPropertiesSubgroupMatrixConfigs configs{};
  configs.chain.sType = static_cast<WGPUSType>(WGPUSType_AdapterPropertiesSubgroupMatrixConfigs);
  WGPUAdapterInfo info{};
  info.nextInChain = &configs.chain;
  if (dawn().AdapterGetInfo(adapter, &info) != WGPUStatus_Success) return std::nullopt;
  std::optional<MatrixShape> best;
  for (const WGPUSubgroupMatrixConfig& config : std::span(configs.configs, configs.configCount)) {
    if (config.componentType != WGPUSubgroupMatrixComponentType_F16 ||
        config.resultComponentType != WGPUSubgroupMatrixComponentType_F32 ||
        config.minSubgroupSize != config.maxSubgroupSize || info.subgroupMinSize != info.subgroupMaxSize) {
      continue;
    }
    const MatrixShape shape{config.M, config.N, config.K, config.maxSubgroupSize};
    if (!best || shape.m * shape.n * shape.k > best->m * best->n * best->k) best = shape;
  }
  dawn().AdapterPropertiesSubgroupMatrixConfigsFreeMembers(configs);
  dawn().AdapterInfoFreeMembers(info);
  return best;
}

}  // namespace

void Device::Fault::record(const std::string& error) {
  const std::scoped_lock lock(mutex);
  if (text.empty()) text = error;
}

Device::Device(Adapter adapter, const Options& options)
    : info_(std::move(adapter.info)),
      options_(options),
      adapter_(std::move(adapter.handle)),
      fault_(std::make_unique<Fault>()) {
  if (options_.memory < info_.memory_bytes || info_.memory_bytes == 0)
    info_.memory_bytes = options_.memory == UINT64_MAX ? 0 : options_.memory;
  memory_->pretend_total(options_.memory);
  open(adapter_.get());
}

Device::~Device() {
  queue_ = {};
  if (device_) dawn().DeviceDestroy(device_.get());  // no callback comes after this
}

void Device::open(WGPUAdapter adapter) {
  const auto has = [&](int feature) {
    return dawn().AdapterHasFeature(adapter, static_cast<WGPUFeatureName>(feature)) != 0;
  };
  WGPULimits adapter_limits{};
  if (dawn().AdapterGetLimits(adapter, &adapter_limits) != WGPUStatus_Success) {
    throw DeviceError(message("[webgpu] ", info_.name, ": its limits cannot be read"));
  }
  require(adapter_limits, info_);

  // A subgroup's lanes are found by subgroup_id and subgroup_invocation_id, never by guessing from the thread's number.
  subgroups_ = options_.subgroups && has(WGPUFeatureName_Subgroups) &&
               dawn().InstanceHasWGSLLanguageFeature(instance(), WGPUWGSLLanguageFeatureName_SubgroupId) != 0;
  timestamps_ = options_.timestamps && has(WGPUFeatureName_TimestampQuery);

  half_ = options_.half && has(WGPUFeatureName_ShaderF16);
  if (options_.matrices && subgroups_ && half_) matrix_ = runs_nothing() ? kNullMatrix : matrix_shape(adapter);

  std::vector<WGPUFeatureName> features;
  if (matrix_) features.push_back(static_cast<WGPUFeatureName>(WGPUFeatureName_ChromiumExperimentalSubgroupMatrix));
  for (int feature :
       {int{WGPUFeatureName_Subgroups}, int{WGPUFeatureName_SubgroupSizeControl}, int{WGPUFeatureName_ShaderF16},
        int{WGPUFeatureName_TimestampQuery}, WGPUFeatureName_ImplicitDeviceSynchronization, WGPUFeatureName_HostMappedPointer}) {
    if (feature == WGPUFeatureName_HostMappedPointer && !options_.host_pointer) continue;
    if (feature == WGPUFeatureName_ShaderF16 && !options_.half) continue;
    if (has(feature)) features.push_back(static_cast<WGPUFeatureName>(feature));
  }

  std::vector<const char*> enabled = {"disable_lazy_clear_for_mapped_at_creation_buffer"};
  std::vector<const char*> disabled = {"timestamp_quantization"};
  if (!options_.validation)
    enabled.insert(enabled.end(), {"skip_validation", "disable_robustness", "disable_polyfills_on_integer_div_and_mod"});
  if (!options_.dot4) enabled.push_back("polyfill_packed_4x8_dot_product");
  WGPUDawnTogglesDescriptor toggles{};
  toggles.chain.sType = static_cast<WGPUSType>(WGPUSType_DawnTogglesDescriptor);
  toggles.enabledToggles = enabled.data();
  toggles.enabledToggleCount = enabled.size();
  toggles.disabledToggles = disabled.data();
  toggles.disabledToggleCount = disabled.size();

  WGPUDeviceDescriptor descriptor{};
  descriptor.nextInChain = &toggles.chain;
  descriptor.label = view("rwkvnative");
  descriptor.requiredFeatures = features.data();
  descriptor.requiredFeatureCount = features.size();
  if (options_.limits) descriptor.requiredLimits = &adapter_limits;  // else what WebGPU grants everywhere
  descriptor.deviceLostCallbackInfo.mode = WGPUCallbackMode_AllowSpontaneous;
  descriptor.deviceLostCallbackInfo.userdata1 = fault_.get();
  descriptor.deviceLostCallbackInfo.callback = [](const WGPUDevice*, WGPUDeviceLostReason reason, WGPUStringView text_view,
                                                  void* fault, void*) {
    if (reason == WGPUDeviceLostReason_Destroyed || reason == WGPUDeviceLostReason_CallbackCancelled) return;
    const std::string why = text(text_view);  // its first line; the others are Dawn's own trace
    static_cast<Fault*>(fault)->record("the device was lost (" + why.substr(0, why.find('\n')) +
                                       "); what was on it is gone: load the model again, or use device=\"cpu\"");
  };
  descriptor.uncapturedErrorCallbackInfo.userdata1 = fault_.get();
  descriptor.uncapturedErrorCallbackInfo.callback = [](const WGPUDevice*, WGPUErrorType, WGPUStringView text_view,
                                                       void* fault,
                                                       void*) {
    const std::string why = text(text_view);
    static_cast<Fault*>(fault)->record(why.substr(0, why.find('\n')) +
                                       "; what was asked of it since may be wrong: load the model again, and please report this");
  };

  struct Answer {
    WGPUDevice device = nullptr;
    std::string text;
  } answer;
  WGPURequestDeviceCallbackInfo callback{};
  callback.mode = WGPUCallbackMode_WaitAnyOnly;
  callback.userdata1 = &answer;
  callback.callback = [](WGPURequestDeviceStatus, WGPUDevice device, WGPUStringView text_view, void* out, void*) {
    auto& target = *static_cast<Answer*>(out);
    target.device = device;
    target.text = text(text_view);
  };
  WGPUFutureWaitInfo wait{dawn().AdapterRequestDevice(adapter, &descriptor, callback), false};
  dawn().InstanceWaitAny(instance(), 1, &wait, UINT64_MAX);
  if (answer.device == nullptr) throw DeviceError(message("[webgpu] ", info_.name, ": cannot be opened: ", answer.text));
  device_ = DeviceHandle(answer.device);
  queue_ = QueueHandle(dawn().DeviceGetQueue(device_.get()));

  if (dawn().DeviceGetLimits(device_.get(), &limits_) != WGPUStatus_Success) {
    throw DeviceError(message("[webgpu] ", info_.name, ": the device's limits cannot be read"));
  }
  if (runs_nothing() && matrix_) limits_.maxComputeWorkgroupStorageSize = kNullWorkgroupStorage;
  max_binding_ = std::min({limits_.maxStorageBufferBindingSize, limits_.maxBufferSize, options_.max_binding}) / 256 * 256;
  if (max_binding_ < kMinBinding) {
    throw DeviceError(
        message("[webgpu] ", info_.name, ": bindings of ", max_binding_, " bytes, expected at least ", kMinBinding,
                "; use another device"));
  }
  if (options_.host_pointer && has(WGPUFeatureName_HostMappedPointer)) read_host_alignment();
  WGPUAdapterInfo adapter_info{};
  if (subgroups_ && dawn().AdapterGetInfo(adapter, &adapter_info) == WGPUStatus_Success) {
    subgroup_min_size_ = std::max(1u, adapter_info.subgroupMinSize);
    subgroup_max_size_ = std::max(subgroup_min_size_, adapter_info.subgroupMaxSize);
    dawn().AdapterInfoFreeMembers(adapter_info);
    if (runs_nothing() && matrix_) subgroup_min_size_ = subgroup_max_size_ = kNullMatrix.lanes;
  }
}

void Device::read_host_alignment() {
  WGPUDawnHostMappedPointerLimits host{};
  host.chain.sType = static_cast<WGPUSType>(WGPUSType_DawnHostMappedPointerLimits);
  WGPULimits limits{};
  limits.nextInChain = &host.chain;
  if (dawn().DeviceGetLimits(device_.get(), &limits) == WGPUStatus_Success) host_alignment_ = host.hostMappedPointerAlignment;
}

void Device::check() const {
  const std::scoped_lock lock(fault_->mutex);
  if (!fault_->text.empty()) throw DeviceError(message("[webgpu] ", info_.name, ": ", fault_->text));
}

void Device::wait(WGPUFuture future) const {
  WGPUFutureWaitInfo info{future, false};
  const WGPUWaitStatus status = dawn().InstanceWaitAny(instance(), 1, &info, UINT64_MAX);
  check();
  if (status != WGPUWaitStatus_Success)
    throw DeviceError(message("[webgpu] ", info_.name, ": waiting for the device failed"));
}

void Device::wait_idle() const {
  WGPUQueueWorkDoneCallbackInfo callback{};
  callback.mode = WGPUCallbackMode_WaitAnyOnly;
  callback.callback = [](WGPUQueueWorkDoneStatus, WGPUStringView, void*, void*) {};
  wait(dawn().QueueOnSubmittedWorkDone(queue(), callback));
}

void Device::push_scopes() const {
  for (WGPUErrorFilter filter : {WGPUErrorFilter_Validation, WGPUErrorFilter_Internal, WGPUErrorFilter_OutOfMemory}) {
    dawn().DevicePushErrorScope(get(), filter);
  }
}

void Device::pop_scopes(const std::string& what) const {
  struct Answer {
    std::string error;
    bool out_of_memory = false;
  } answer;
  for (int scope = 0; scope < 3; ++scope) {
    WGPUPopErrorScopeCallbackInfo callback{};
    callback.mode = WGPUCallbackMode_WaitAnyOnly;
    callback.userdata1 = &answer;
    callback.callback = [](WGPUPopErrorScopeStatus, WGPUErrorType type, WGPUStringView text_view, void* out, void*) {
      auto& target = *static_cast<Answer*>(out);
      if (type == WGPUErrorType_NoError || !target.error.empty()) return;
      target.error = text(text_view);
      target.out_of_memory = type == WGPUErrorType_OutOfMemory;
    };
    wait(dawn().DevicePopErrorScope(get(), callback));
  }
  if (answer.error.empty()) return;
  const std::string error = message("[webgpu] ", info_.name, ": ", what, ": ", answer.error);
  if (answer.out_of_memory) throw OutOfDeviceMemory(error.substr(0, error.find('\n')));  // the rest is Dawn's trace
  throw DeviceError(error);
}

Buffer Device::create_buffer(const std::string& label, uint64_t bytes, WGPUBufferUsage usage, bool mapped) const {
  const uint64_t size = (std::max<uint64_t>(bytes, 16) + 15) / 16 * 16;
  if (size > limits_.maxBufferSize) {
    throw DeviceError(message("[webgpu] ", info_.name, ": ", label, " needs a buffer of ", size,
                              " bytes, the device allows ", limits_.maxBufferSize));
  }
  if (const uint64_t number = ++buffers_; number >= options_.refused_from && (number - options_.refused_from) % options_.refused_every < 2)
    throw OutOfDeviceMemory(message("[webgpu] ", info_.name, ": ", label, ": no room for ", size, " bytes: a test asked for it"));
  MemoryLease lease(memory_, size);
  if (!lease) throw OutOfDeviceMemory(message("[webgpu] ", info_.name, ": ", label, ": ", memory_->refusal(size)));
  WGPUBufferDescriptor descriptor{};
  descriptor.label = view(label);
  descriptor.usage = usage;
  descriptor.size = size;
  descriptor.mappedAtCreation = mapped;
  Buffer buffer;
  try {
    buffer = {checked(message(label, " (", size, " bytes)"),
                      [&] { return BufferHandle(dawn().DeviceCreateBuffer(get(), &descriptor)); }),
              size, std::move(lease)};
  } catch (const OutOfDeviceMemory& error) {
    throw OutOfDeviceMemory(message(error.what(), "; ", memory_->used() - size, " bytes are in use"));
  }
  if (!buffer) throw DeviceError(message("[webgpu] ", info_.name, ": ", label, ": no buffer of ", size, " bytes"));
  return buffer;
}

Buffer Device::import_host(const std::string& label, std::shared_ptr<const HostMemory> memory,
                           WGPUBufferUsage usage) const {
  const uint64_t size = memory->size();
  // Dawn lets go of the memory some time after the buffer: the callback's reference keeps it until then.
  WGPUBufferHostMappedPointer host{};
  host.chain.sType = static_cast<WGPUSType>(WGPUSType_BufferHostMappedPointer);
  host.pointer = memory->data();
  host.disposeCallback = [](void* reference) { delete static_cast<std::shared_ptr<const HostMemory>*>(reference); };
  host.userdata = new std::shared_ptr<const HostMemory>(std::move(memory));
  WGPUBufferDescriptor descriptor{};
  descriptor.nextInChain = &host.chain;
  descriptor.label = view(label);
  descriptor.usage = usage;
  descriptor.size = size;
  return {checked(message(label, " (", size, " bytes of host memory)"),
                  [&] { return BufferHandle(dawn().DeviceCreateBuffer(get(), &descriptor)); }),
          size, {}};
}

EncoderHandle Device::create_encoder(const char* label) const {
  WGPUCommandEncoderDescriptor descriptor{};
  descriptor.label = view(label);
  return EncoderHandle(dawn().DeviceCreateCommandEncoder(get(), &descriptor));
}

void Device::submit(EncoderHandle encoder) const {
  WGPUCommandBufferDescriptor descriptor{};
  const CommandBufferHandle commands(dawn().CommandEncoderFinish(encoder.get(), &descriptor));
  const WGPUCommandBuffer raw = commands.get();
  dawn().QueueSubmit(queue(), 1, &raw);
  if (++submits_ == options_.lost_at_submit) {
    if (dawn().DeviceForceLoss == nullptr) throw InputError("[webgpu] RWKVNATIVE_WEBGPU_FAIL: this Dawn has no wgpuDeviceForceLoss");
    dawn().DeviceForceLoss(get(), WGPUDeviceLostReason_Unknown, view("a test asked for it"));
  }
}

void Device::read(WGPUBuffer buffer, uint64_t offset, std::span<std::byte> out) const {
  if (out.empty()) return;
  const Buffer staging = create_buffer("read-back", out.size(), WGPUBufferUsage_MapRead | WGPUBufferUsage_CopyDst);
  EncoderHandle encoder = create_encoder("read-back");
  dawn().CommandEncoderCopyBufferToBuffer(encoder.get(), buffer, offset, staging.get(), 0, out.size());
  submit(std::move(encoder));
  WGPUBufferMapCallbackInfo callback{};
  callback.mode = WGPUCallbackMode_WaitAnyOnly;
  callback.callback = [](WGPUMapAsyncStatus, WGPUStringView, void*, void*) {};
  wait(dawn().BufferMapAsync(staging.get(), WGPUMapMode_Read, 0, out.size(), callback));
  const void* mapped = dawn().BufferGetConstMappedRange(staging.get(), 0, out.size());
  if (mapped == nullptr)
    throw DeviceError(message("[webgpu] ", info_.name, ": reading ", out.size(), " bytes back failed"));
  std::memcpy(out.data(), mapped, out.size());
  dawn().BufferUnmap(staging.get());
}

void Device::write(WGPUBuffer buffer, uint64_t offset, std::span<const std::byte> in) const {
  dawn().QueueWriteBuffer(queue(), buffer, offset, in.data(), in.size());
  check();
}

}  // namespace rwkvnative::webgpu
