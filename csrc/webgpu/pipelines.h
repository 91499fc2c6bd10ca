// Bind group layouts and compiled kernels of a device.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/workers.h"
#include "webgpu/device.h"

namespace rwkvnative::webgpu {

// What a kernel is given besides its own group 0.
enum class Bindings {
  Main,            // 0 weights, 1 activations, 2 params
  MainHalves,      // and 3 float16 activations to write
  Embed,           // and 3 tokens, 4 norms
  Parts,           // and 3 a table of what the dispatch works on, 4 sums, 5 float16 activations to write
  Product,         // the same, 5 to read
  Choice,          // 1 activations, 3 tokens, 4 entries, 5 bias
  Draw,            // 1 activations, 3 tokens, 4 keys, 5 draws, 6 sums, 7 history
  MainState,       // and group 1: a part of the state
  MainStateOther,  // MainState, and group 2: the same part of another state
  MainStates,      // and group 1: a layer of the states of a block; group 2: the table of sequences
  StatesHalves,    // MainStates, with MainHalves
  StatesParts,     // MainStates, with Parts
};

constexpr uint32_t kMostBuffers = 8;  // storage buffers of a kernel: what every device must allow

struct Kernel {
  std::string label;
  PipelineHandle pipeline;
  std::string error;
  uint32_t carry_group = 0;  // behind its own; 0: it does not carry
  uint32_t carry_workgroup = 0;  // threads of a workgroup, if it does
  double seconds = 0;        // that compiling took
};

// Compiles kernels, once for each text, all that are requested before finish() at the same time. Thread-safe.
class Pipelines {
 public:
  explicit Pipelines(const Device& device);

  // Starts compiling; finish() waits for everything started. The kernel lives as long as this object.
  // carries: the kernel with what carry.h adds to it.
  const Kernel& request(const std::string& label, const std::string& source, Bindings bindings, bool carries = false);
  // Throws DeviceError naming the kernel, with Dawn's message.
  void finish();
  size_t size() const;  // kernels so far
  // What each kernel took, all that were compiled so far.
  std::multimap<std::string, double> seconds();

  WGPUBindGroupLayout group_layout(Bindings bindings) const;  // of group 0
  WGPUBindGroupLayout state_layout() const { return state_.get(); }
  WGPUBindGroupLayout other_state_layout() const { return other_state_.get(); }
  WGPUBindGroupLayout states_layout() const { return states_.get(); }
  WGPUBindGroupLayout sequences_layout() const { return sequences_.get(); }

  // Group 0 from its buffers in the order of the layout.
  struct Range {
    WGPUBuffer buffer;
    uint64_t offset = 0, size = WGPU_WHOLE_SIZE;
  };
  BindGroupHandle bind(const std::string& label, Bindings bindings, std::span<const Range> ranges) const;
  BindGroupHandle bind(const std::string& label, WGPUBindGroupLayout layout, std::span<const uint32_t> numbers,
                       std::span<const Range> ranges) const;
  // Whether what such a kernel binds leaves room for that group.
  bool can_carry(Bindings bindings) const;
  // The group of a share that a kernel carries: where it is, where it goes, how many threads carry it.
  BindGroupHandle bind_carry(std::span<const Range> ranges) const;

 private:
  struct Entry {
    uint32_t number;
    WGPUBufferBindingType type;
    bool dynamic = false;
  };
  void compile(Kernel& kernel, const std::string& source, WGPUPipelineLayout layout) const;
  WGPUPipelineLayout pipeline_layout(Bindings bindings) const;
  // The layouts of a kernel's own groups, and the pipeline layout with one more behind them.
  std::vector<WGPUBindGroupLayout> own_groups(Bindings bindings) const;
  WGPUPipelineLayout carrying_layout(Bindings bindings);
  BindGroupLayoutHandle make_layout(const char* label, std::initializer_list<Entry> entries);
  PipelineLayoutHandle make_pipeline_layout(const char* label, const std::vector<WGPUBindGroupLayout>& groups) const;

  const Device& device_;
  std::map<WGPUBindGroupLayout, uint32_t> buffers_;  // of each layout
  BindGroupLayoutHandle main_, main_halves_, embed_, parts_, product_, choice_, draw_, state_, other_state_, states_, sequences_, carry_;
  PipelineLayoutHandle main_pipeline_, main_halves_pipeline_, embed_pipeline_, parts_pipeline_, product_pipeline_, choice_pipeline_,
      draw_pipeline_, state_pipeline_, state_other_pipeline_, states_pipeline_, states_halves_pipeline_, states_parts_pipeline_;
  std::map<Bindings, PipelineLayoutHandle> carrying_pipelines_;
  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Kernel>> kernels_;
  Workers workers_;  // last: gone before what they work on
};

}  // namespace rwkvnative::webgpu
