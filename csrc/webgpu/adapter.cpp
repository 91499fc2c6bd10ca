// Which adapters there are, and which one a name means.
#include <algorithm>
#include <array>
#include <cctype>
#include <mutex>

#include "core/error.h"
#include "webgpu/device.h"
#include "webgpu/instance.h"
#include "webgpu/webgpu.h"

namespace rwkvnative::webgpu {
namespace {

constexpr std::array kBackends = {WGPUBackendType_Metal, WGPUBackendType_Vulkan, WGPUBackendType_D3D12};

size_t backend_rank(WGPUBackendType type) {
  return static_cast<size_t>(std::find(kBackends.begin(), kBackends.end(), type) - kBackends.begin());
}

std::string backend_name(WGPUBackendType type) {
  switch (type) {
    case WGPUBackendType_Metal:
      return "Metal";
    case WGPUBackendType_Vulkan:
      return "Vulkan";
    case WGPUBackendType_D3D12:
      return "D3D12";
    case WGPUBackendType_Null:
      return "Null";
    default:
      return "?";
  }
}

DeviceKind kind(WGPUAdapterType type) {
  switch (type) {
    case WGPUAdapterType_CPU:
      return DeviceKind::Software;
    case WGPUAdapterType_IntegratedGPU:
      return DeviceKind::IntegratedGpu;
    default:
      return DeviceKind::DiscreteGpu;
  }
}

// Bytes of the largest device-local heap, or 0 where the adapter does not tell.
uint64_t device_memory(WGPUAdapter adapter) {
  if (!dawn().AdapterHasFeature(adapter, static_cast<WGPUFeatureName>(WGPUFeatureName_AdapterPropertiesMemoryHeaps)))
    return 0;
  WGPUAdapterPropertiesMemoryHeaps heaps{};
  heaps.chain.sType = static_cast<WGPUSType>(WGPUSType_AdapterPropertiesMemoryHeaps);
  WGPUAdapterInfo info{};
  info.nextInChain = &heaps.chain;
  if (dawn().AdapterGetInfo(adapter, &info) != WGPUStatus_Success) return 0;
  uint64_t bytes = 0;
  for (const WGPUMemoryHeapInfo& heap : std::span(heaps.heapInfo, heaps.heapCount)) {
    if ((heap.properties & WGPUHeapProperty_DeviceLocal) != 0) bytes = std::max(bytes, heap.size);
  }
  dawn().AdapterPropertiesMemoryHeapsFreeMembers(heaps);
  dawn().AdapterInfoFreeMembers(info);
  return bytes;
}

std::vector<std::string> feature_names(WGPUAdapter adapter) {
  struct Named {
    int feature;
    const char* name;
  };
  constexpr std::array kNamed = {Named{WGPUFeatureName_Subgroups, "subgroups"},
                                 Named{WGPUFeatureName_SubgroupSizeControl, "subgroup-size-control"},
                                 Named{WGPUFeatureName_ShaderF16, "shader-f16"},
                                 Named{WGPUFeatureName_ChromiumExperimentalSubgroupMatrix, "subgroup-matrix"},
                                 Named{WGPUFeatureName_TimestampQuery, "timestamp-query"},
                                 Named{WGPUFeatureName_HostMappedPointer, "host-mapped-pointer"}};
  std::vector<std::string> names;
  for (const Named& named : kNamed) {
    if (dawn().AdapterHasFeature(adapter, static_cast<WGPUFeatureName>(named.feature))) names.emplace_back(named.name);
  }
  if (dawn().InstanceHasWGSLLanguageFeature(instance(), WGPUWGSLLanguageFeatureName_Packed4x8IntegerDotProduct)) {
    names.emplace_back("packed-int8-dot");
  }
  return names;
}

// Of two threads that ask at once, Dawn gives one of them nothing.
std::mutex asking;

std::vector<AdapterHandle> all_adapters() {
  const std::scoped_lock lock(asking);
  // f16 is off by default on NVIDIA for lack of conformance at the edges of its range; turned on like this it is there, and
  // with it the f16 subgroup matrices, for the kernels that want them.
  const char* enabled = "vulkan_enable_f16_on_nvidia";
  WGPUDawnTogglesDescriptor toggles{};
  toggles.chain.sType = static_cast<WGPUSType>(WGPUSType_DawnTogglesDescriptor);
  toggles.enabledToggles = &enabled;
  toggles.enabledToggleCount = 1;
  std::vector<AdapterHandle> adapters;
  if (dawn().enumerate_adapters != nullptr) {
    WGPURequestAdapterOptions options{};
    options.nextInChain = &toggles.chain;
    std::vector<WGPUAdapter> raw(dawn().enumerate_adapters(instance(), &options, nullptr, 0));
    raw.resize(std::min(raw.size(), dawn().enumerate_adapters(instance(), &options, raw.data(), raw.size())));
    for (WGPUAdapter adapter : raw) adapters.emplace_back(adapter);
    return adapters;
  }
  // webgpu.h itself only gives the best adapter of each wish.
  struct Wish {
    WGPUBackendType backend;
    WGPUPowerPreference power;
    bool fallback;
  };
  std::vector<Wish> wishes;
  for (WGPUBackendType backend : kBackends) {
    for (WGPUPowerPreference power : {WGPUPowerPreference_HighPerformance, WGPUPowerPreference_LowPower})
      wishes.push_back({backend, power, false});
    wishes.push_back({backend, WGPUPowerPreference_Undefined, true});
  }
  for (const Wish& wish : wishes) {
    WGPURequestAdapterOptions options{};
    options.nextInChain = &toggles.chain;
    options.backendType = wish.backend;
    options.powerPreference = wish.power;
    options.forceFallbackAdapter = wish.fallback;
    WGPUAdapter found = nullptr;
    WGPURequestAdapterCallbackInfo callback{};
    callback.mode = WGPUCallbackMode_WaitAnyOnly;
    callback.userdata1 = &found;
    callback.callback = [](WGPURequestAdapterStatus, WGPUAdapter adapter, WGPUStringView, void* out, void*) {
      *static_cast<WGPUAdapter*>(out) = adapter;
    };
    WGPUFutureWaitInfo wait{dawn().InstanceRequestAdapter(instance(), &options, callback), false};
    dawn().InstanceWaitAny(instance(), 1, &wait, UINT64_MAX);
    if (found != nullptr) adapters.emplace_back(found);
  }
  return adapters;
}

bool contains_ignoring_case(const std::string& text, const std::string& part) {
  const auto same = [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
  };
  return std::search(text.begin(), text.end(), part.begin(), part.end(), same) != text.end();
}

}  // namespace

std::vector<Adapter> list_adapters() {
  struct Found {
    Adapter adapter;
    WGPUBackendType backend;
    uint32_t vendor, device;
  };
  std::vector<Found> found;
  const bool may_repeat = dawn().enumerate_adapters == nullptr;
  for (AdapterHandle& handle : all_adapters()) {
    WGPUAdapterInfo info{};
    if (dawn().AdapterGetInfo(handle.get(), &info) != WGPUStatus_Success) continue;
    Found entry{.adapter = {}, .backend = info.backendType, .vendor = info.vendorID, .device = info.deviceID};
    entry.adapter.info.name = text(info.device);
    entry.adapter.info.kind = kind(info.adapterType);
    entry.adapter.info.driver = text(info.description);
    dawn().AdapterInfoFreeMembers(info);
    if (backend_rank(entry.backend) == kBackends.size() && !(entry.backend == WGPUBackendType_Null && null_adapter_wanted()))
      continue;  // OpenGL, Null: too little for the kernels
    const auto repeats = [&](const Found& other) {
      return other.backend == entry.backend && other.vendor == entry.vendor && other.device == entry.device &&
             other.adapter.info.name == entry.adapter.info.name;
    };
    if (may_repeat && std::any_of(found.begin(), found.end(), repeats)) continue;
    entry.adapter.handle = std::move(handle);
    found.push_back(std::move(entry));
  }
  std::stable_sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    return std::pair(a.adapter.info.kind, backend_rank(a.backend)) <
           std::pair(b.adapter.info.kind, backend_rank(b.backend));
  });
  std::vector<Adapter> adapters;
  for (Found& entry : found) {
    DeviceInfo& info = entry.adapter.info;
    info.id = message("webgpu:", adapters.size());
    info.backend = "webgpu";
    info.memory_bytes = device_memory(entry.adapter.handle.get());
    info.features = feature_names(entry.adapter.handle.get());
    info.features.insert(info.features.begin(), backend_name(entry.backend));
    adapters.push_back(std::move(entry.adapter));
  }
  return adapters;
}

Adapter choose_adapter(const std::string& device) {
  std::vector<Adapter> adapters = list_adapters();
  if (adapters.empty()) throw DeviceError(message("[webgpu] ", webgpu_unavailable()));
  const std::string wish = device.rfind("webgpu:", 0) == 0 ? device.substr(7) : "";
  if (device != "webgpu" && wish.empty()) {
    throw InputError(message("[webgpu] device \"", device, "\": expected webgpu, webgpu:N or webgpu:part-of-a-name"));
  }
  if (wish.empty()) return std::move(adapters.front());
  const bool is_number = std::all_of(wish.begin(), wish.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  std::string names;
  for (Adapter& adapter : adapters) {
    if (is_number ? adapter.info.id == device : contains_ignoring_case(adapter.info.name, wish)) return std::move(adapter);
    names += message(names.empty() ? "" : ", ", adapter.info.id, " (", adapter.info.name, ")");
  }
  throw InputError(message("[webgpu] device \"", device, "\" is not there; there are ", names));
}

}  // namespace rwkvnative::webgpu

namespace rwkvnative {

std::vector<DeviceInfo> webgpu_devices() {
  std::vector<DeviceInfo> infos;
  try {
    for (webgpu::Adapter& adapter : webgpu::list_adapters()) infos.push_back(std::move(adapter.info));
  } catch (const DeviceError&) {
    // No Dawn: webgpu_unavailable() tells why.
  }
  return infos;
}

std::string webgpu_unavailable() {
  try {
    if (!webgpu::list_adapters().empty()) return {};
  } catch (const DeviceError& error) {
    return error.what();
  }
#if defined(_WIN32)
  return "no GPU that Direct3D 12 or Vulkan can use was found; install the vendor's driver, or use device=\"cpu\"";
#elif defined(__APPLE__)
  return "no GPU that Metal can use was found; use device=\"cpu\"";
#else
  return "no Vulkan device was found; install the Vulkan loader and a driver (Debian: libvulkan1 and mesa-vulkan-drivers, "
         "or the GPU vendor's driver), or use device=\"cpu\"";
#endif
}

}  // namespace rwkvnative
