#include "webgpu/instance.h"

#include <array>

#include "core/error.h"

namespace rwkvnative::webgpu {

WGPUInstance instance() {
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
