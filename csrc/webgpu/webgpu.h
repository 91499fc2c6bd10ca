// The WebGPU backend on Dawn: every GPU that is not a Mac, and software adapters for tests.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"

namespace rwkvnative {

// Where Dawn is: the addresses of wgpuGetProcAddress and, or 0, of the wgpudawn wheel's wgpu_dawn_enumerate_adapters.
struct DawnAddresses {
  uintptr_t get_proc_address = 0, enumerate_adapters = 0;
};

// `find` is called once, when Dawn is first needed; it may throw DeviceError. Where the environment variable
// RWKVNATIVE_DAWN_LIBRARY names a libwebgpu_dawn, that is loaded instead.
void set_dawn_source(DawnAddresses (*find)());

// All adapters, hardware before software; their ids are "webgpu:0", "webgpu:1", ... Empty, with the reason in
// webgpu_unavailable(), where there is no Dawn or no driver.
std::vector<DeviceInfo> webgpu_devices();

// Why webgpu_devices() is empty, with what to do about it; empty text where it is not.
std::string webgpu_unavailable();

// "webgpu" (the first adapter, of hardware if there is any), "webgpu:N", or "webgpu:part of a name", case ignored.
// Throws DeviceError: nothing to open, no such adapter, an adapter that lacks what the kernels need.
std::unique_ptr<Backend> open_webgpu(const std::string& device);

}  // namespace rwkvnative
