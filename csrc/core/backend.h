// What the engine asks of a device. A Backend is an opened device; load() packs a Plan's weights for it; compile() makes a
// Program for one shape of work; submitting a Program is a replay without allocation.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/model_file.h"
#include "core/plan.h"
#include "core/profile.h"

namespace rwkvnative {

enum class DeviceKind { Cpu, DiscreteGpu, IntegratedGpu, Software };

struct DeviceInfo {
  std::string id;       // what Model(device=...) takes: "cpu", "webgpu:0", "metal"
  std::string name;     // the vendor's name of it
  std::string backend;  // "cpu", "webgpu", "metal"
  std::string driver;   // its name and version, if known
  DeviceKind kind = DeviceKind::Cpu;
  uint64_t memory_bytes = 0;  // 0: unknown
  uint32_t n_threads = 0;     // of a CPU
  std::vector<std::string> features;
};

// How activations meet quantized weights: as float32, or as int8 with one scale per 32 values.
enum class Numerics { Auto, F32, Int8 };

struct LoadOptions {
  Numerics numerics = Numerics::Auto;
  // The most memory, in bytes, that weights, activations, states and results may take on the device together. What does not
  // fit passes through the device layer by layer. 0: what the device has. On the CPU: the most of the file to keep in memory.
  uint64_t max_device_memory = 0;
  std::shared_ptr<const ModelFile> file = nullptr;  // that the plan's tensors lie in; null: they are just memory
  std::function<void(uint64_t done, uint64_t total)> progress;  // bytes of weights; may throw to cancel
};

// The recurrent state of one sequence, on the device. Host layout: layers in order, each layer's parts in the order of
// Plan::state_parts, shapes as given there; Plan::state_values() float32 in all.
class State {
 public:
  virtual ~State() = default;
  virtual std::unique_ptr<State> clone() const = 0;
  virtual void assign(const State& other) = 0;  // other is of the same model
  virtual void read(std::span<float> out) const = 0;
  virtual void write(std::span<const float> in) = 0;
};

// What a submit brings back.
enum class Readout {
  None,        // only the state moves on
  LastLogits,  // [sequences][n_vocab]: after the last token of each sequence
  AllLogits,   // [rows][n_vocab]
  Hidden,      // [sequences][n_embd]: the input of the head matrix at the last token
  Candidates,  // [sequences] sorted top-k with the log of the sum over the whole vocabulary
  Argmax,      // [sequences] token ids
  Draw,        // [sequences] token ids, as each sequence's Draw says; where LoadedModel::most_drawn() allows
};

// How a token is drawn: in this order the bias (Sequence), the penalties, top_k, top_p, min_p, the temperature, and then the
// first token by falling logit and rising id whose running probability exceeds u. python/rwkvnative/sampling/ defines each
// and is the reference: a backend's float32 sums may decide otherwise only where its float64 sums are within 1e-6 of a bound.
struct Draw {
  // A token that came before.
  struct Used {
    int32_t id;
    float count;     // among the generated ones, decayed
    uint32_t place;  // of its last use, counted from 1; 0: too long ago for repeat_last_n
    bool generated;
  };

  float u = 0;          // 0 <= u < 1
  uint32_t top_k = 0;   // 0: no limit
  float top_p = 1;      // 1: off
  float min_p = 0;      // 0: off
  float temperature = 1;
  bool bans = false;    // a bias bans tokens
  float presence = 0, frequency = 0, decay = 1;  // OccurrencePenalty
  float repeat = 1;                              // RepeatPenalty
  uint32_t repeat_last_n = 0;
  uint32_t place = 1;  // of the token that is drawn; one more than that of the last one used
  // Each token used so far; null: the device still knows them, the one that it drew last included.
  const std::vector<Used>* used = nullptr;

  bool has_occurrence() const { return presence != 0 || frequency != 0; }
  bool has_penalties() const { return has_occurrence() || repeat != 1; }
};

// One sequence's share of a submit. state_in may be null (a fresh state) and may be state_out.
struct Sequence {
  std::span<const int32_t> tokens;  // empty: the token that this Program's previous submit found (Argmax, Draw)
  const State* state_in = nullptr;
  State* state_out = nullptr;
  std::span<const int32_t> bias_ids = {};  // Candidates, Argmax, Draw: added to these logits before the choice
  std::span<const float> bias_values = {};
  const Draw* draw = nullptr;  // Readout::Draw; null: no matter what is drawn
};

struct CandidateList {
  std::span<const int32_t> ids;   // by falling logit, then by rising id
  std::span<const float> logits;
  float log_sum_exp = 0;
};

// Views into the Program's own memory, valid until its next submit.
struct Result {
  std::span<const float> values;  // logits or hidden
  std::vector<CandidateList> candidates;
  std::span<const int32_t> tokens;  // Argmax, Draw; -1: the logits are not finite, or every token is banned
};

// The most work a Program takes at once; a submit may bring less.
struct Shape {
  uint32_t rows = 1;
  uint32_t sequences = 1;
  Readout readout = Readout::LastLogits;
  uint32_t candidates = 0;  // k, for Readout::Candidates; for Readout::Draw 1 if any sequence has penalties

  auto operator<=>(const Shape&) const = default;
};

using Ticket = uint64_t;

class Program {
 public:
  virtual ~Program() = default;
  // Starts the work; at most max_in_flight() tickets may be open.
  virtual Ticket submit(std::span<const Sequence> sequences) = 0;
  // Blocks until the ticket's work is done and throws what went wrong on the device.
  virtual Result wait(Ticket ticket) = 0;
  virtual uint32_t max_in_flight() const { return 1; }
  // Memory of its own: activations, results.
  virtual uint64_t scratch_bytes() const { return 0; }
  // Runs one submit with a clock around every step. Its results and states are as submit() leaves them.
  virtual OpTimes profile(std::span<const Sequence> sequences);
  // For tests of single ops: the contents of an activation slot, float32 [rows][width], before and after a submit.
  virtual void write_slot(SlotId slot, std::span<const float> values) = 0;
  virtual void read_slot(SlotId slot, std::span<float> values) const = 0;
};

// Where a loaded model's bytes are. Layers count the head as one.
struct MemoryUse {
  uint64_t budget = 0;  // bytes; 0: no limit
  uint64_t used = 0, peak = 0;  // bytes allocated on the device, now and at most
  uint32_t layers = 0, resident_layers = 0;
  uint64_t streamed_bytes = 0;  // that go to the device for each token, or for each chunk of a prompt
  uint64_t host_bytes = 0;      // of weights kept in host memory in the device's layout
};

// A Plan's weights on a device. Programs and States must not outlive it.
class LoadedModel {
 public:
  virtual ~LoadedModel() = default;
  virtual std::unique_ptr<State> create_state() = 0;
  virtual std::unique_ptr<Program> compile(const Shape& shape) = 0;
  virtual uint32_t prefill_rows() const = 0;  // the chunk length that suits the device, or that Backend::set_tuning asked for
  virtual uint32_t logits_rows() const { return prefill_rows(); }  // the most rows of a submit that logits are made of
  // Fewer rows, rising, that Programs for short prompts should be compiled for. None where a Program takes the time of what a
  // submit brings, whatever it was compiled for.
  virtual std::vector<uint32_t> short_rows() const { return {}; }
  virtual uint64_t device_bytes() const = 0;  // what load() allocated beside the file's own pages, but for:
  virtual uint64_t scratch_bytes() const { return 0; }  // memory that all Programs share
  virtual MemoryUse memory() const { return {}; }
  // Sequences that a Program draws tokens of at once, at most; 0: none can.
  virtual uint32_t most_drawn() const { return 0; }
  // Whether there is less room left than a few states may soon want: a cache of Programs should give some up.
  virtual bool short_of_room() const { return false; }
  // Whether running it reads the plan's tensors.
  virtual bool reads_file() const { return true; }
  // Whether the backend's constants (Backend::set_tuning) ask for another layout of the weights than the one that was loaded. Then
  // reload(), which reads the plan's tensors once more and needs all Programs gone; States stay. Where it throws, the model
  // is as it was, or if even that is impossible compile() throws from then on.
  virtual bool wants_reload() const { return false; }
  virtual void reload() {}
  // Takes over the chunk length that the constants ask for, once all Programs are gone. Where weights stream, the memory budget
  // has chosen it, and it stays. Throws OutOfDeviceMemory, and keeps what it has, if there is no room for such a chunk.
  virtual void use_tuning() {}
  // Chunk lengths that are worth trying, rising, each with bounded memory that there is room for; none where weights stream.
  virtual std::vector<uint32_t> prefill_choices() const { return {}; }
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const DeviceInfo& info() const = 0;
  // The plan and the bytes its tensors point to must outlive the result.
  virtual std::unique_ptr<LoadedModel> load(const Plan& plan, const LoadOptions& options) = 0;
  // Takes a second or so; the device should be doing nothing else. 0: not measured.
  virtual Ceilings measure_ceilings();

  // For the tuner. Programs compiled from now on use these constants: a text in the backend's own syntax, "" for its defaults.
  // Throws InputError for any other text.
  virtual void set_tuning(const std::string& text);
  // Texts for set_tuning() that are worth trying; none where nothing can be tuned.
  virtual std::vector<std::string> tuning_variants() const { return {}; }
  // Changes when the backend's kernels do.
  virtual std::string kernels_id() const { return {}; }
};

}  // namespace rwkvnative
