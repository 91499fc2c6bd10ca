#include "webgpu/instance.h"

#include <array>

#include "core/error.h"
#include "core/process.h"

namespace rwkvnative::webgpu {

WGPUInstance instance() {
  static const uint32_t of = forks();
  if (forks() != of)
    throw DeviceError("[webgpu] the GPU was used before this process was forked, and only the parent can go on with it: start the child "
                      "with multiprocessing's \"spawn\", or take device=\"cpu\"");
  static const WGPUInstance made = [] {
    const std::array enabled = {"allow_unsafe_apis"};  // subgroup matrices; toggles of adapters: adapter.cpp
    WGPUDawnTogglesDescriptor toggles{};
    toggles.chain.sType = static_cast<WGPUSType>(WGPUSType_DawnTogglesDescriptor);
    toggles.enabledToggles = enabled.data();
    toggles.enabledToggleCount = enabled.size();
    const WGPUInstanceFeatureName features[] = {WGPUInstanceFeatureName_TimedWaitAny,
                                                WGPUInstanceFeatureName_MultipleDevicesPerAdapter};
    WGPUInstanceDescriptor descriptor{};
    descriptor.nextInChain = &toggles.chain;
    descriptor.requiredFeatures = features;
    descriptor.requiredFeatureCount = std::size(features);
    const WGPUInstance instance = dawn().CreateInstance(&descriptor);
    if (instance == nullptr)
      throw DeviceError("[webgpu] Dawn could not create an instance; expected a Dawn with timed waits");
    return instance;
  }();
  return made;
}

}  // namespace rwkvnative::webgpu
