#include "metal/device.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "metal/metal.h"

namespace rwkvnative::metal {
namespace {

// What every kernel counts on: simdgroups of 32 with sums and 8x8 matrices, unified memory. The M1 and every later Mac
// chip. Their text is Metal Shading Language 3.0: macOS 13, from which on a device is of the family Metal 3.
bool is_usable(id<MTLDevice> device, std::string& why) {
  if (device == nil) {
    why = "this machine has no Metal device";
  } else if (![device supportsFamily:MTLGPUFamilyApple7] || ![device hasUnifiedMemory]) {
    why = text([device name]) + " is not an Apple GPU (M1 or later); use a webgpu device";
  } else if (![device supportsFamily:MTLGPUFamilyMetal3]) {
    why = text([device name]) + ": Metal 3 is missing, which macOS 13 brings; use a webgpu device";
  } else {
    return true;
  }
  return false;
}

// The system's default device. Without a window server (ssh, launchd) there may be none, and the GPU is listed nonetheless.
Owned<id<MTLDevice>> find_device() {
  const AutoreleasePool pool;
  Owned<id<MTLDevice>> device(MTLCreateSystemDefaultDevice());
  if (device) return device;
  const Owned<NSArray*> all(MTLCopyAllDevices());
  std::string why;
  for (id<MTLDevice> each in all.get()) {
    if (is_usable(each, why)) return Owned<id<MTLDevice>>::retained(each);
  }
  return device;
}

constexpr auto kApple9 = static_cast<MTLGPUFamily>(1009);  // MTLGPUFamilyApple9; macOS 13's SDK does not know it

DeviceInfo describe(id<MTLDevice> device) {
  DeviceInfo info;
  info.id = "metal:0";
  info.name = text([device name]);
  info.backend = "metal";
  info.driver = "macOS " + text([[NSProcessInfo processInfo] operatingSystemVersionString]);
  info.kind = info.name.starts_with("software") ? DeviceKind::Software : DeviceKind::IntegratedGpu;  // tests/metal
  info.memory_bytes = [device recommendedMaxWorkingSetSize];
  struct Family {
    MTLGPUFamily family;
    const char* name;
  };
  for (const Family& f : {Family{MTLGPUFamilyApple7, "apple7"}, Family{MTLGPUFamilyApple8, "apple8"},
                          Family{kApple9, "apple9"}, Family{MTLGPUFamilyMetal3, "metal3"}}) {
    if ([device supportsFamily:f.family]) info.features.push_back(f.name);
  }
  return info;
}

const char* reason(NSInteger code) {
  switch (code) {
    case MTLCommandBufferErrorTimeout:
      return "the GPU took too long and was stopped";
    case MTLCommandBufferErrorPageFault:
      return "a kernel read or wrote outside of its memory";
    case MTLCommandBufferErrorOutOfMemory:
      return "the GPU is out of memory";
    case MTLCommandBufferErrorAccessRevoked:
      return "the system took the GPU away";
    case MTLCommandBufferErrorNotPermitted:
      return "the system does not permit GPU work now";
    default:
      return "the GPU failed";
  }
}

// "; in LABEL" of each encoder that failed, or that another's failure may have spoilt.
std::string encoders_at_fault(NSError* error) {
  std::string labels;
  NSArray* encoders = error == nil ? nil : [[error userInfo] objectForKey:MTLCommandBufferEncoderInfoErrorKey];
  for (id<MTLCommandBufferEncoderInfo> encoder in encoders) {
    if ([encoder errorState] == MTLCommandEncoderErrorStateFaulted) labels += "; in " + text([encoder label]);
    if ([encoder errorState] == MTLCommandEncoderErrorStateAffected) labels += "; affected: " + text([encoder label]);
  }
  return labels;
}

}  // namespace

Device::Device(const std::string& device, const Options& options)
    : options_(options), device_(find_device()) {
  @autoreleasepool {
    std::string why;
    if (!is_usable(device_.get(), why)) throw DeviceError(message("[metal] ", device, ": ", why));
    info_ = describe(device_.get());
    if (device != "metal" && device != info_.id)
      throw DeviceError(message("[metal] device: expected \"metal\" or \"", info_.id, "\", got \"", device, "\""));
    max_buffer_ = [device_.get() maxBufferLength];
    max_threadgroup_memory_ = static_cast<uint32_t>([device_.get() maxThreadgroupMemoryLength]);
    queue_ = Owned<id<MTLCommandQueue>>([device_.get() newCommandQueue]);
    if (!queue_) throw DeviceError(message("[metal] ", info_.name, ": it gives no command queue"));
  }
}

Buffer Device::create_buffer(const std::string& label, uint64_t bytes) const {
  const uint64_t size = (std::max<uint64_t>(bytes, 16) + 15) / 16 * 16;
  if (size > max_buffer_) {
    throw DeviceError(message("[metal] ", info_.name, ": ", label, " needs a buffer of ", size,
                              " bytes, the device allows ", max_buffer_));
  }
  @autoreleasepool {
    Buffer buffer{reserve(label, size),
                  Owned<id<MTLBuffer>>([device_.get() newBufferWithLength:size options:MTLResourceStorageModeShared]),
                  size};
    if (!buffer) {
      throw OutOfDeviceMemory(message("[metal] ", info_.name, ": ", label, ": no memory for ", size, " bytes: ",
                                      memory_->used() - size, " are in use, ", info_.memory_bytes, " recommended in all"));
    }
    [buffer.get() setLabel:ns_string(label)];
    std::memset(buffer.contents(), 0, size);
    return buffer;
  }
}

MemoryLease Device::reserve(const std::string& label, uint64_t bytes) const {
  MemoryLease lease(memory_, bytes);
  if (!lease) throw OutOfDeviceMemory(message("[metal] ", info_.name, ": ", label, ": ", memory_->refusal(bytes)));
  return lease;
}

Buffer Device::wrap(const std::string& label, const std::byte* pages, uint64_t bytes, bool reserved) const {
  @autoreleasepool {
    MemoryLease lease = reserved ? MemoryLease() : MemoryLease(memory_, bytes);
    if (!reserved && !lease) return {};
    Buffer buffer{std::move(lease),
                  Owned<id<MTLBuffer>>([device_.get() newBufferWithBytesNoCopy:const_cast<std::byte*>(pages)
                                                                        length:bytes
                                                                       options:MTLResourceStorageModeShared
                                                                   deallocator:nil]),
                  bytes};
    if (!buffer) return {};
    [buffer.get() setLabel:ns_string(label)];
    return buffer;
  }
}

bool Device::under_pressure() const {
  const AutoreleasePool pool;
  return info_.memory_bytes != 0 && [device_.get() currentAllocatedSize] > info_.memory_bytes;
}

CommandBuffer Device::create_command_buffer(const char* label) const {
  @autoreleasepool {
    // Buffers outlive the work on them anyway: programs and models wait for it.
    CommandBuffer commands;
    if (options_.trace) {
      const Owned<MTLCommandBufferDescriptor*> descriptor([[MTLCommandBufferDescriptor alloc] init]);
      [descriptor.get() setRetainedReferences:NO];
      [descriptor.get() setErrorOptions:MTLCommandBufferErrorOptionEncoderExecutionStatus];
      commands = CommandBuffer::retained([queue_.get() commandBufferWithDescriptor:descriptor.get()]);
    } else {
      commands = CommandBuffer::retained([queue_.get() commandBufferWithUnretainedReferences]);
    }
    if (!commands) throw DeviceError(message("[metal] ", info_.name, ": it gives no command buffer for ", label));
    [commands.get() setLabel:[NSString stringWithUTF8String:label]];
    return commands;
  }
}

void Device::commit(const CommandBuffer& commands) const {
  const AutoreleasePool pool;
  const std::scoped_lock lock(mutex_);
  std::erase_if(committed_, [](const CommandBuffer& c) { return [c.get() status] >= MTLCommandBufferStatusCompleted; });
  committed_.push_back(CommandBuffer::retained(commands.get()));
  [commands.get() commit];
}

void Device::commit_unattended(const CommandBuffer& commands) const {
  commit(commands);
  const std::scoped_lock lock(mutex_);
  unattended_.push_back(CommandBuffer::retained(commands.get()));
}

std::string Device::finish(const CommandBuffer& commands) const {
  const AutoreleasePool pool;
  [commands.get() waitUntilCompleted];
  std::string first;
  {
    const std::scoped_lock lock(mutex_);
    std::erase_if(unattended_, [&](const CommandBuffer& c) {
      if ([c.get() status] < MTLCommandBufferStatusCompleted) return false;
      if (first.empty()) first = error_of(c);
      return true;
    });
  }
  return first.empty() ? error_of(commands) : first;
}

std::string Device::error_of(const CommandBuffer& commands) const {
  @autoreleasepool {
    if ([commands.get() status] != MTLCommandBufferStatusError) return {};
    NSError* error = [commands.get() error];
    return message("[metal] ", info_.name, ": ", text([commands.get() label]), ": ",
                   reason(error == nil ? 0 : [error code]), ": ", text(error),
                   options_.trace ? encoders_at_fault(error) : " (RWKVNATIVE_METAL_TRACE=1 names the kernel)");
  }
}

std::string Device::finish_all() const {
  std::vector<CommandBuffer> open;
  {
    const std::scoped_lock lock(mutex_);
    open.swap(committed_);
  }
  std::string first;
  for (const CommandBuffer& commands : open) {
    const std::string error = finish(commands);
    if (first.empty()) first = error;
  }
  return first;
}

void Device::wait(const CommandBuffer& commands) const {
  if (const std::string error = finish(commands); !error.empty()) throw DeviceError(error);
}

void Device::wait_idle() const {
  if (const std::string error = finish_all(); !error.empty()) throw DeviceError(error);
}

}  // namespace rwkvnative::metal

namespace rwkvnative {

std::string metal_unavailable() {
  @autoreleasepool {
    const metal::Owned<id<MTLDevice>> device = metal::find_device();
    std::string why;
    metal::is_usable(device.get(), why);
    return why;
  }
}

std::vector<DeviceInfo> metal_devices() {
  @autoreleasepool {
    const metal::Owned<id<MTLDevice>> device = metal::find_device();
    std::string why;
    if (!metal::is_usable(device.get(), why)) return {};
    return {metal::describe(device.get())};
  }
}

}  // namespace rwkvnative
