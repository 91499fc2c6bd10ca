#include "backends.h"

#include "core/error.h"
#include "cpu/cpu.h"
#ifdef RWKVNATIVE_WEBGPU
#include "webgpu/webgpu.h"
#endif

namespace rwkvnative {

std::vector<DeviceInfo> list_devices() {
  std::vector<DeviceInfo> devices;
#ifdef RWKVNATIVE_WEBGPU
  for (DeviceInfo& device : webgpu_devices()) devices.push_back(std::move(device));
#endif
  for (DeviceInfo& device : cpu_devices()) devices.push_back(std::move(device));
  return devices;
}

std::unique_ptr<Backend> open_backend(const std::string& device, uint32_t n_threads) {
  if (device == "auto") return open_cpu("cpu", n_threads);
  if (device == "cpu" || device.starts_with("cpu:")) return open_cpu(device, n_threads);
#ifdef RWKVNATIVE_WEBGPU
  if (device.starts_with("webgpu")) return open_webgpu(device);
#endif
  std::string known;
  for (const DeviceInfo& info : list_devices()) known += info.id + ", ";
  throw InputError(message("device: expected \"auto\" or one of ", known, "got \"", device, "\""));
}

}  // namespace rwkvnative
