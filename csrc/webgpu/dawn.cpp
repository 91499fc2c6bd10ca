#include "webgpu/dawn.h"

#include <atomic>
#include <cstdlib>

#include "core/error.h"
#include "webgpu/webgpu.h"

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace rwkvnative {
namespace webgpu {
namespace {

using GetProcAddress = WGPUProc (*)(WGPUStringView);

std::atomic<DawnAddresses (*)()>& source() {
  static std::atomic<DawnAddresses (*)()> find = nullptr;
  return find;
}

// wgpuGetProcAddress of a shared library, which stays loaded for the life of the process.
GetProcAddress load_library(const char* path) {
#ifdef _WIN32
  HMODULE library = LoadLibraryA(path);
  if (library == nullptr)
    throw DeviceError(
        message("[webgpu] RWKVNATIVE_DAWN_LIBRARY=", path, ": cannot be loaded (error ", GetLastError(), ")"));
  auto function =
      reinterpret_cast<GetProcAddress>(reinterpret_cast<void*>(::GetProcAddress(library, "wgpuGetProcAddress")));
#else
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw DeviceError(message("[webgpu] RWKVNATIVE_DAWN_LIBRARY=", path, ": ", dlerror()));
  auto function = reinterpret_cast<GetProcAddress>(dlsym(library, "wgpuGetProcAddress"));
#endif
  if (function == nullptr)
    throw DeviceError(message("[webgpu] RWKVNATIVE_DAWN_LIBRARY=", path,
                              ": it has no wgpuGetProcAddress; expected Dawn's libwebgpu_dawn"));
  return function;
}

template <class Function>
void look_up(GetProcAddress get, Function& function, const char* name) {
  function = reinterpret_cast<Function>(get(view(name)));
  if (function == nullptr)
    throw DeviceError(message("[webgpu] this Dawn has no function ", name,
                              "; expected the version of the wgpudawn wheel that rwkvnative was built with"));
}

Dawn load() {
  Dawn functions;
  GetProcAddress get = nullptr;
  if (const char* path = std::getenv("RWKVNATIVE_DAWN_LIBRARY"); path != nullptr && *path != '\0') {
    get = load_library(path);
  } else if (const auto find = source().load(); find != nullptr) {
    const DawnAddresses found = find();
    get = reinterpret_cast<GetProcAddress>(found.get_proc_address);
    functions.enumerate_adapters = reinterpret_cast<decltype(functions.enumerate_adapters)>(found.enumerate_adapters);
  }
  if (get == nullptr) {
    throw DeviceError(
        "[webgpu] Dawn is not there: install the package wgpudawn, or let RWKVNATIVE_DAWN_LIBRARY name a libwebgpu_dawn");
  }
#define RWKVNATIVE_LOOK_UP(name) look_up(get, functions.name, "wgpu" #name);
  RWKVNATIVE_DAWN_FUNCTIONS(RWKVNATIVE_LOOK_UP)
#undef RWKVNATIVE_LOOK_UP
  functions.DeviceForceLoss = reinterpret_cast<decltype(functions.DeviceForceLoss)>(get(view("wgpuDeviceForceLoss")));
  return functions;
}

}  // namespace

const Dawn& dawn() {
  static const Dawn functions = load();  // tried again next time if it throws
  return functions;
}

}  // namespace webgpu

void set_dawn_source(DawnAddresses (*find)()) { webgpu::source().store(find); }

}  // namespace rwkvnative
