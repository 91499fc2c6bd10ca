#include "webgpu/pipelines.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>

#include "core/error.h"
#include "webgpu/carry.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kMostWorkers = 16;  // a driver that compiles takes memory

constexpr std::array<uint32_t, 4> kMainNumbers = {0, 1, 2, 3};
constexpr std::array<uint32_t, 5> kEmbedNumbers = {0, 1, 2, 3, 4};
constexpr std::array<uint32_t, 6> kPartsNumbers = {0, 1, 2, 3, 4, 5};
constexpr std::array<uint32_t, 4> kChoiceNumbers = {1, 3, 4, 5};
constexpr std::array<uint32_t, 6> kDrawNumbers = {1, 3, 4, 5, 6, 7};

std::span<const uint32_t> numbers(Bindings bindings) {
  switch (bindings) {
    case Bindings::Embed:
      return kEmbedNumbers;
    case Bindings::Parts:
    case Bindings::Product:
    case Bindings::StatesParts:
      return kPartsNumbers;
    case Bindings::Choice:
      return kChoiceNumbers;
    case Bindings::Draw:
      return kDrawNumbers;
    default:
      return kMainNumbers;
  }
}

}  // namespace

BindGroupLayoutHandle Pipelines::make_layout(const char* label, std::initializer_list<Entry> entries) {
  std::vector<WGPUBindGroupLayoutEntry> raw;
  for (const Entry& entry : entries) {
    WGPUBindGroupLayoutEntry out{};
    out.binding = entry.number;
    out.visibility = WGPUShaderStage_Compute;
    out.buffer.type = entry.type;
    out.buffer.hasDynamicOffset = entry.dynamic;
    raw.push_back(out);
  }
  WGPUBindGroupLayoutDescriptor descriptor{};
  descriptor.label = view(label);
  descriptor.entries = raw.data();
  descriptor.entryCount = raw.size();
  BindGroupLayoutHandle layout = device_.checked(
      label, [&] { return BindGroupLayoutHandle(dawn().DeviceCreateBindGroupLayout(device_.get(), &descriptor)); });
  buffers_[layout.get()] = static_cast<uint32_t>(
      std::count_if(entries.begin(), entries.end(), [](const Entry& entry) { return entry.type != WGPUBufferBindingType_Uniform; }));
  return layout;
}

PipelineLayoutHandle Pipelines::make_pipeline_layout(const char* label, const std::vector<WGPUBindGroupLayout>& groups) const {
  uint32_t buffers = 0;
  for (const WGPUBindGroupLayout group : groups) buffers += buffers_.at(group);
  if (buffers > kMostBuffers)  // Dawn does not look where it does not validate
    throw DeviceError(message("[webgpu] a kernel of layout ", label, " binds ", buffers, " buffers, expected at most ", kMostBuffers));
  WGPUPipelineLayoutDescriptor descriptor{};
  descriptor.label = view(label);
  descriptor.bindGroupLayouts = groups.data();
  descriptor.bindGroupLayoutCount = groups.size();
  return device_.checked(
      label, [&] { return PipelineLayoutHandle(dawn().DeviceCreatePipelineLayout(device_.get(), &descriptor)); });
}

Pipelines::Pipelines(const Device& device) : device_(device), workers_(std::clamp(std::thread::hardware_concurrency(), 1u, kMostWorkers)) {
  constexpr auto kRead = WGPUBufferBindingType_ReadOnlyStorage;
  constexpr auto kWrite = WGPUBufferBindingType_Storage;
  main_ = make_layout("main", {{0, kRead}, {1, kWrite}, {2, kRead}});
  embed_ = make_layout("embed", {{0, kRead}, {1, kWrite}, {2, kRead}, {3, kWrite}, {4, kRead}});
  main_halves_ = make_layout("main and halves", {{0, kRead}, {1, kWrite}, {2, kRead}, {3, kWrite}});
  parts_ = make_layout("parts", {{0, kRead}, {1, kWrite}, {2, kRead}, {3, kRead}, {4, kWrite}, {5, kWrite}});
  product_ = make_layout("product", {{0, kRead}, {1, kWrite}, {2, kRead}, {3, kRead}, {4, kWrite}, {5, kRead}});
  choice_ = make_layout("choice", {{1, kWrite}, {3, kWrite}, {4, kWrite}, {5, kRead}});
  draw_ = make_layout("draw", {{1, kWrite}, {3, kWrite}, {4, kWrite}, {5, kRead}, {6, kWrite}, {7, kWrite}});
  state_ = make_layout("state", {{0, kWrite, true}});
  // Two states may lie in one buffer, which a dispatch must not bind for reading and for writing.
  other_state_ = make_layout("other state", {{0, kWrite, true}});
  states_ = make_layout("states", {{0, kWrite}});
  sequences_ = make_layout("sequences", {{0, kRead, true}});
  carry_ = make_layout("carry", {{0, kRead}, {1, kWrite}, {2, WGPUBufferBindingType_Uniform}});
  main_pipeline_ = make_pipeline_layout("main", {main_.get()});
  embed_pipeline_ = make_pipeline_layout("embed", {embed_.get()});
  main_halves_pipeline_ = make_pipeline_layout("main and halves", {main_halves_.get()});
  parts_pipeline_ = make_pipeline_layout("parts", {parts_.get()});
  product_pipeline_ = make_pipeline_layout("product", {product_.get()});
  choice_pipeline_ = make_pipeline_layout("choice", {choice_.get()});
  draw_pipeline_ = make_pipeline_layout("draw", {draw_.get()});
  state_pipeline_ = make_pipeline_layout("state", {main_.get(), state_.get()});
  state_other_pipeline_ =
      make_pipeline_layout("state from another", {main_.get(), state_.get(), other_state_.get()});
  states_pipeline_ = make_pipeline_layout("states", {main_.get(), states_.get(), sequences_.get()});
  states_halves_pipeline_ =
      make_pipeline_layout("states and halves", {main_halves_.get(), states_.get(), sequences_.get()});
  states_parts_pipeline_ = make_pipeline_layout("states and parts", {parts_.get(), states_.get(), sequences_.get()});
}

WGPUBindGroupLayout Pipelines::group_layout(Bindings bindings) const {
  switch (bindings) {
    case Bindings::Embed:
      return embed_.get();
    case Bindings::Parts:
    case Bindings::StatesParts:
      return parts_.get();
    case Bindings::Product:
      return product_.get();
    case Bindings::MainHalves:
    case Bindings::StatesHalves:
      return main_halves_.get();
    case Bindings::Choice:
      return choice_.get();
    case Bindings::Draw:
      return draw_.get();
    default:
      return main_.get();
  }
}

WGPUPipelineLayout Pipelines::pipeline_layout(Bindings bindings) const {
  switch (bindings) {
    case Bindings::Embed:
      return embed_pipeline_.get();
    case Bindings::Parts:
      return parts_pipeline_.get();
    case Bindings::Product:
      return product_pipeline_.get();
    case Bindings::MainHalves:
      return main_halves_pipeline_.get();
    case Bindings::Choice:
      return choice_pipeline_.get();
    case Bindings::Draw:
      return draw_pipeline_.get();
    case Bindings::MainState:
      return state_pipeline_.get();
    case Bindings::MainStateOther:
      return state_other_pipeline_.get();
    case Bindings::MainStates:
      return states_pipeline_.get();
    case Bindings::StatesHalves:
      return states_halves_pipeline_.get();
    case Bindings::StatesParts:
      return states_parts_pipeline_.get();
    default:
      return main_pipeline_.get();
  }
}

std::vector<WGPUBindGroupLayout> Pipelines::own_groups(Bindings bindings) const {
  std::vector<WGPUBindGroupLayout> groups = {group_layout(bindings)};
  switch (bindings) {
    case Bindings::MainState:
      groups.push_back(state_.get());
      break;
    case Bindings::MainStateOther:
      groups.insert(groups.end(), {state_.get(), other_state_.get()});
      break;
    case Bindings::MainStates:
    case Bindings::StatesHalves:
    case Bindings::StatesParts:
      groups.insert(groups.end(), {states_.get(), sequences_.get()});
      break;
    default:
      break;
  }
  return groups;
}

bool Pipelines::can_carry(Bindings bindings) const {
  uint32_t buffers = buffers_.at(carry_.get());
  for (const WGPUBindGroupLayout group : own_groups(bindings)) buffers += buffers_.at(group);
  return buffers <= kMostBuffers;
}

WGPUPipelineLayout Pipelines::carrying_layout(Bindings bindings) {
  PipelineLayoutHandle& layout = carrying_pipelines_[bindings];
  if (layout) return layout.get();
  std::vector<WGPUBindGroupLayout> groups = own_groups(bindings);
  groups.push_back(carry_.get());
  layout = make_pipeline_layout("carrying", groups);
  return layout.get();
}

const Kernel& Pipelines::request(const std::string& label, const std::string& own_source, Bindings bindings, bool carries) {
  const std::scoped_lock lock(mutex_);
  const std::string key = message(static_cast<int>(bindings), carries ? "carries" : "", own_source);
  if (const auto found = kernels_.find(key); found != kernels_.end()) return *found->second;
  auto made = std::make_unique<Kernel>();
  made->label = label;
  if (carries) made->carry_group = static_cast<uint32_t>(own_groups(bindings).size());
  std::string source = own_source;
  if (carries) {
    CarryingText text = carrying(own_source, made->carry_group);
    source = std::move(text.source);
    made->carry_workgroup = text.threads;
  }
  const WGPUPipelineLayout layout = carries ? carrying_layout(bindings) : pipeline_layout(bindings);
  Kernel& kernel = *(kernels_[key] = std::move(made));
  workers_.add([this, &kernel, source, layout] {
    const auto start = std::chrono::steady_clock::now();
    try {
      compile(kernel, source, layout);
    } catch (const std::exception& error) {
      kernel.error = error.what();
    }
    kernel.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  });
  return kernel;
}

// Error scopes are the thread's. Not by Dawn's asynchronous creation: its workers are two, whatever the machine has.
void Pipelines::compile(Kernel& kernel, const std::string& source, WGPUPipelineLayout layout) const {
  const auto checked = [&](WGPUErrorFilter filter, auto create) {
    dawn().DevicePushErrorScope(device_.get(), filter);
    auto made = create();
    WGPUPopErrorScopeCallbackInfo scope{};
    scope.mode = WGPUCallbackMode_WaitAnyOnly;
    scope.userdata1 = &kernel;
    scope.callback = [](WGPUPopErrorScopeStatus, WGPUErrorType type, WGPUStringView text_view, void* out, void*) {
      auto& error = static_cast<Kernel*>(out)->error;
      if (type != WGPUErrorType_NoError && error.empty()) error = text(text_view);
    };
    device_.wait(dawn().DevicePopErrorScope(device_.get(), scope));
    return made;
  };
  const auto make_module = [&](std::string_view code) {
    WGPUShaderSourceWGSL wgsl{};
    wgsl.chain.sType = WGPUSType_ShaderSourceWGSL;
    wgsl.code = view(code);
    WGPUShaderModuleDescriptor descriptor{};
    descriptor.nextInChain = &wgsl.chain;
    descriptor.label = view(kernel.label);
    return checked(WGPUErrorFilter_Validation,
                   [&] { return ShaderModuleHandle(dawn().DeviceCreateShaderModule(device_.get(), &descriptor)); });
  };
  const std::string& broken = device_.options().broken_kernel;
  const bool breaks = !broken.empty() && kernel.label.find(broken) != std::string::npos;
  ShaderModuleHandle module = make_module(breaks ? "this is no shader" : source);
  if (!kernel.error.empty()) return;  // without validation, Dawn would look for an entry point of a module that has none
  // Its subgroups are not of the size that its subgroup matrices pretend.
  if (device_.runs_nothing() && device_.matrix()) module = make_module("@compute @workgroup_size(1) fn main() {}");

  WGPUComputePipelineDescriptor descriptor{};
  descriptor.label = view(kernel.label);
  descriptor.layout = layout;
  descriptor.compute.module = module.get();
  descriptor.compute.entryPoint = view("main");
  PipelineHandle pipeline = checked(WGPUErrorFilter_Validation, [&] {
    return checked(WGPUErrorFilter_Internal, [&] {
      return checked(WGPUErrorFilter_OutOfMemory,
                     [&] { return PipelineHandle(dawn().DeviceCreateComputePipeline(device_.get(), &descriptor)); });
    });
  });
  if (kernel.error.empty()) kernel.pipeline = std::move(pipeline);
}

void Pipelines::finish() {
  const std::scoped_lock lock(mutex_);
  workers_.wait();
  std::string error;
  for (auto kernel = kernels_.begin(); kernel != kernels_.end();) {
    if (kernel->second->pipeline) {
      ++kernel;
      continue;
    }
    if (error.empty()) {
      error = message("kernel ", kernel->second->label, " does not compile; use another device, and please report this: ",
                      kernel->second->error);
    }
    kernel = kernels_.erase(kernel);
  }
  device_.check();
  if (!error.empty()) throw DeviceError(message("[webgpu] ", device_.info().name, ": ", error));
}

std::multimap<std::string, double> Pipelines::seconds() {
  const std::scoped_lock lock(mutex_);
  workers_.wait();
  std::multimap<std::string, double> seconds;
  for (const auto& [source, kernel] : kernels_)
    if (kernel->pipeline) seconds.emplace(kernel->label, kernel->seconds);
  return seconds;
}

size_t Pipelines::size() const {
  const std::scoped_lock lock(mutex_);
  return kernels_.size();
}

BindGroupHandle Pipelines::bind(const std::string& label, Bindings bindings, std::span<const Range> ranges) const {
  return bind(label, group_layout(bindings), numbers(bindings), ranges);
}

BindGroupHandle Pipelines::bind_carry(std::span<const Range> ranges) const {
  constexpr std::array<uint32_t, 3> kNumbers = {0, 1, 2};
  return bind("carry", carry_.get(), kNumbers, ranges);
}

BindGroupHandle Pipelines::bind(const std::string& label, WGPUBindGroupLayout layout, std::span<const uint32_t> numbers,
                                std::span<const Range> ranges) const {
  std::vector<WGPUBindGroupEntry> raw;
  for (size_t i = 0; i < ranges.size(); ++i) {
    WGPUBindGroupEntry entry{};
    entry.binding = numbers[i];
    entry.buffer = ranges[i].buffer;
    entry.offset = ranges[i].offset;
    entry.size = ranges[i].size;
    raw.push_back(entry);
  }
  WGPUBindGroupDescriptor descriptor{};
  descriptor.label = view(label);
  descriptor.layout = layout;
  descriptor.entries = raw.data();
  descriptor.entryCount = raw.size();
  return device_.checked(label, [&] { return BindGroupHandle(dawn().DeviceCreateBindGroup(device_.get(), &descriptor)); });
}

}  // namespace rwkvnative::webgpu
