// A plan compiled for one shape of work: a flat list of dispatches and the memory they use. compile.h has how it is made.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/candidate_lists.h"
#include "webgpu/activations.h"
#include "webgpu/carry.h"
#include "webgpu/model.h"
#include "webgpu/sequence_table.h"

namespace rwkvnative::webgpu {

// How the number of workgroups follows from what a submit brings; `x` is Dispatch::x.
enum class Grid {
  Fixed,         // x
  Rows,          // rows
  RowTiles,      // x * ceil(rows / tile)
  RowsY,         // x * rows
  RowsBy,        // rows * x
  HeadRows,      // rows that the head works on * x
  HeadTiles,     // x * ceil(head rows / tile)
  Sequences,     // x * sequences
  Bias,          // ceil(bias entries / x)
  History,       // ceil(used tokens / x)
  SequenceRows,  // rows * x, of the one sequence whose state the kernel is given
  EachSequence,  // x, likewise
  StatesRows,       // once a block of states: rows * x
  StatesSequences,  // once a block of states: x * sequences
};

// Whether a dispatch works on the rows that the head does, not on all rows of activations.
inline bool is_of_head(Grid grid) { return grid == Grid::HeadRows || grid == Grid::HeadTiles || grid == Grid::Sequences; }

struct Dispatch {
  std::string label;
  const Kernel* kernel = nullptr;
  BindGroupHandle group;
  Grid grid = Grid::Fixed;
  uint32_t x = 1, tile = 1;
  uint32_t state_part = 0;  // of those that work on states
  uint32_t unit = kNoUnit;  // the streamed unit that it reads
  int32_t layer = -1;
  Cost cost;
  Carry carry{};  // what else its kernel does
};

// Dispatches in a row that read one streamed unit, or none.
struct Run {
  uint32_t unit = kNoUnit;
  size_t begin = 0, end = 0;
  uint32_t next = kNoUnit;    // the streamed unit that is wanted after `unit`
  bool carries_next = false;  // by shares in dispatches from here on
};

// Everything that compiling makes.
struct Compiled {
  Activations activations;
  std::vector<Dispatch> dispatches;
  std::vector<Run> runs;  // of the dispatches; empty if nothing streams
  Buffer carried_nowhere;  // for kernels that carry, in dispatches without a share
  Buffer carrying_threads;  // kernels/carry.wgsl: kCarryStep, twice that and so on
  BindGroupHandle carries_nothing;
  Buffer table_rows;      // of the embedding table, for each row of the submit, if the host gathers them
  Buffer params, tokens, entries, bias, dummy;
  Buffer draws, intervals, history, used;  // of Readout::Draw, with entries: kernels/draw.wgsl, draw_history.wgsl
  Buffer sums;                 // of matrices, before they are finished: kernels/matmat.wgsl
  std::vector<Buffer> tables;  // of Bindings::Parts and Bindings::Product
  std::shared_ptr<const WeightTiles> kept_tiles;  // shared with other programs
  size_t logits_slot = 0, hidden_slot = 0;
  size_t largest_slots = 0;  // in a row: the largest r, k, v and v_first of each of kernels/reduce.wgsl's workgroups
  size_t free_slot = 0;  // where values move to that a kernel must not replace while others read them
  // In a row: w, a, v, g of Wkv7, and y where there are many rows; of wkv7_rows.wgsl its four outputs.
  size_t lora_slots = 0;
  uint32_t result_stride = 0;  // of Candidates, in entries, from sequence to sequence
  bool candidates_on_host = false;
  bool covers_state = false;        // writes every part of every layer's state
  bool reads_other_states = false;  // reads state_in where it is and writes state_out's other buffer
};

class DeviceProgram final : public Program {
 public:
  DeviceProgram(std::shared_ptr<const LoadedParts> model, const Shape& shape);
  ~DeviceProgram() override;

  Ticket submit(std::span<const Sequence> sequences) override;
  Result wait(Ticket ticket) override;
  uint32_t max_in_flight() const override { return static_cast<uint32_t>(flights_.size()); }
  uint64_t scratch_bytes() const override;
  void write_slot(SlotId slot, std::span<const float> values) override;
  void read_slot(SlotId slot, std::span<float> values) const override;

  OpTimes profile(std::span<const Sequence> sequences) override;

 private:
  struct Flight {
    Ticket ticket = 0;  // 0: free
    Buffer readback;
    WGPUFuture future{};
    uint32_t sequences = 0, head_rows = 0;
    // What the result points to, until the flight is used again.
    std::vector<float> values;
    std::vector<int32_t> ids;
    CandidateLists candidates;
  };
  // The numbers of one submit that grids depend on.
  struct Work {
    uint32_t rows = 0, sequences = 0, head_rows = 0, bias = 0, used = 0;
  };

  // program_prepare.cpp
  Work prepare(std::span<const Sequence> sequences);
  void gather_table_rows(std::span<const Sequence> sequences);
  void prepare_bias(std::span<const Sequence> sequences, Work& work);
  void prepare_states(std::span<const Sequence> sequences);
  // program_draw.cpp
  void prepare_draws(std::span<const Sequence> sequences, Work& work);
  void forget_histories(WGPUCommandEncoder encoder, std::span<const Sequence> sequences) const;
  // program.cpp
  void encode_states(WGPUCommandEncoder encoder, std::span<const Sequence> sequences) const;
  // carries: its share of a unit too.
  void encode(WGPUComputePassEncoder pass, const Dispatch& dispatch, std::span<const Sequence> sequences, const Work& work,
              bool carries = false) const;
  static bool is_apart(const Sequence& sequence);
  void bind_one_state(WGPUComputePassEncoder pass, const Dispatch& dispatch, const Sequence& sequence) const;
  void states_submitted(std::span<const Sequence> sequences);
  double slow_seconds(const Dispatch& dispatch, const Work& work) const;  // watchdog.h
  size_t end_of_submit(size_t begin, size_t end, const Work& work, double before = 0) const;
  // All dispatches, in passes that begin once their weights are there. May submit the encoder and go on with another.
  void encode_whole(EncoderHandle& encoder, std::span<const Sequence> sequences, const Work& work) const;
  void encode_streaming(EncoderHandle& encoder, std::span<const Sequence> sequences, const Work& work) const;
  // program_profile.cpp: microseconds of each dispatch, by device timestamps around it, or the wall clock of many repeats of it.
  std::vector<double> timestamps(std::span<const Sequence> sequences, const Work& work, std::vector<UploadTime>& uploads);
  std::vector<double> wall_clock(std::span<const Sequence> sequences, const Work& work, std::vector<UploadTime>& uploads);
  double time_uploads() const;  // microseconds of all units, one behind the other
  void time_upload(uint32_t unit, size_t first_op, EncoderHandle& encoder, std::vector<UploadTime>& uploads);
  bool chooses() const { return shape_.readout == Readout::Argmax || shape_.readout == Readout::Draw; }
  // program_results.cpp: bytes of the results of a submit, and where they are.
  uint64_t result_bytes(uint32_t sequences, uint32_t head_rows) const;
  std::pair<WGPUBuffer, uint64_t> result_source() const;
  Result unpack(Flight& flight, const std::byte* mapped);

  std::shared_ptr<const LoadedParts> model_;
  Shape shape_;
  Compiled compiled_;
  double slow_seconds_ = 0;  // of all dispatches for one row: watchdog.h
  std::optional<SequenceTable> table_;  // where states are used otherwise than one at a time
  std::vector<SequenceTable::Rows> sequence_rows_;
  std::vector<Flight> flights_;
  Ticket last_ticket_ = 0;
  std::vector<uint32_t> params_, written_params_;
  std::vector<uint32_t> bias_, draws_, used_;
  bool has_choice_ = false;  // a token chosen by an earlier submit is on the device
  std::vector<int32_t> chosen_;       // the same, on the host, if that gathers the table's rows
  std::vector<std::byte> table_rows_;
};

// compile.cpp
// What a program takes on the device, nearly, before any weights are loaded: bytes of all its buffers, and of its largest.
struct ProgramSize {
  uint64_t bytes = 0, binding = 0;
};
ProgramSize program_size(const LoadedParts& model, const Shape& shape);
Compiled compile(const LoadedParts& model, const Shape& shape);
// compile_draw.cpp
uint32_t most_drawn(const Device& device, uint32_t n_vocab);

}  // namespace rwkvnative::webgpu
