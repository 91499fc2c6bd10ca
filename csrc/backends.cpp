#include "backends.h"

#include <filesystem>
#include <system_error>

#include "core/error.h"
#include "cpu/cpu.h"
#ifdef RWKVNATIVE_METAL
#include "metal/metal.h"
#endif
#ifdef RWKVNATIVE_WEBGPU
#include "webgpu/webgpu.h"
#endif

namespace rwkvnative {

namespace {

#ifdef RWKVNATIVE_WEBGPU
// Whether it is worth loading Dawn, which takes a fifth of a second and prints warnings of its own about software adapters.
// On Linux every GPU driver makes a device file.
bool may_have_gpu() {
#if defined(__linux__)
  std::error_code error;
  for (const char* folder : {"/dev", "/dev/dri"})
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("renderD") || name.starts_with("nvidia") || name == "dxg" || name.starts_with("mali")) return true;
    }
  return false;
#else
  return true;
#endif
}
#endif

// A GPU where there is one; never a software adapter, which is slower than the CPU it runs on.
std::string best_device() {
#ifdef RWKVNATIVE_METAL
  for (const DeviceInfo& device : metal_devices())
    if (device.kind != DeviceKind::Software) return device.id;
#endif
#ifdef RWKVNATIVE_WEBGPU
  if (!may_have_gpu()) return "cpu";
  for (const DeviceInfo& device : webgpu_devices())
    if (device.kind != DeviceKind::Software) return device.id;
#endif
  return "cpu";
}

}  // namespace

std::vector<DeviceInfo> list_devices() {
  std::vector<DeviceInfo> devices;
#ifdef RWKVNATIVE_METAL
  for (DeviceInfo& device : metal_devices()) devices.push_back(std::move(device));
#endif
#ifdef RWKVNATIVE_WEBGPU
  for (DeviceInfo& device : webgpu_devices()) devices.push_back(std::move(device));
#endif
  for (DeviceInfo& device : cpu_devices()) devices.push_back(std::move(device));
  return devices;
}

std::unique_ptr<Backend> open_backend(const std::string& device, uint32_t n_threads) {
  if (device == "auto") return open_backend(best_device(), n_threads);
  if (device == "cpu" || device.starts_with("cpu:")) return open_cpu(device, n_threads);
#ifdef RWKVNATIVE_METAL
  if (device.starts_with("metal")) return open_metal(device);
#endif
#ifdef RWKVNATIVE_WEBGPU
  if (device.starts_with("webgpu")) return open_webgpu(device);
#endif
  std::string known;
  for (const DeviceInfo& info : list_devices()) known += info.id + ", ";
  throw InputError(message("device: expected \"auto\" or one of ", known, "got \"", device, "\""));
}

}  // namespace rwkvnative
