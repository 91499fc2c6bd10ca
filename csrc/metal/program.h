// A plan compiled for one shape of work: a flat list of dispatches and the memory they use. See compile.mm for how it
// is made.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/candidate_lists.h"
#include "metal/model.h"

namespace rwkvnative::metal {

// How the number of threadgroups follows from what a submit brings; `x` and `tile` are Dispatch's.
enum class Grid {
  Rows,            // rows
  RowTiles,        // x, ceil(rows / tile)
  HeadRows,        // rows that the head works on
  HeadTiles,       // x, ceil(head rows / tile)
  Sequences,       // x, sequences
  Bias,            // ceil(bias entries / x)
  Once,            // x
  RangeRows,       // once a StateRange: its rows, x
  RangeSequences,  // once a StateRange: x, its sequences
};

// Whether a dispatch works on the rows that the head does, not on all rows of activations.
inline bool is_of_head(Grid grid) { return grid == Grid::HeadRows || grid == Grid::HeadTiles || grid == Grid::Sequences; }

// What a binding is, where it differs from submit to submit.
enum class Source : uint8_t { Fixed, Submit, Sequences, Rows, Bias, Results, TableRows, StateIn, StateOut, Range, Window };

struct Binding {
  uint32_t index = 0;  // BUFFER_... of kernels/arguments.h
  Source source = Source::Fixed;
  id<MTLBuffer> buffer = nil;  // of Fixed, alive elsewhere
  uint64_t offset = 0;         // of Fixed and Window
  uint32_t window = kNoWindow;
};

struct Dispatch {
  std::string label;
  const Kernel* kernel = nullptr;
  std::vector<Binding> bindings;
  Grid grid = Grid::Once;
  uint32_t x = 1, tile = 1;
  uint32_t threads = 32;           // of a threadgroup
  uint32_t threadgroup_bytes = 0;  // of threadgroup memory 0
  bool after_all = true;           // a barrier before it; else it may run beside the ones before it
  int32_t layer = -1;              // -1: before or after the layers
  uint32_t unit = kNoUnit;         // the streamed unit that it reads
  Cost cost;
};

// Dispatches in a row that read one streamed unit, or none, and no more than the GPU may do at once: one command buffer.
struct Run {
  uint32_t unit = kNoUnit;
  size_t begin = 0, end = 0;
  uint32_t next = kNoUnit;  // the streamed unit that is wanted after `unit`
};

// An activation slot within Compiled::activations, in floats: rows padded to a multiple of 32, the padding zero.
struct SlotPlace {
  uint32_t width = 0, stride = 0, rows = 0;
  uint64_t offset = 0;
};

// Everything that compiling makes.
struct Compiled {
  std::vector<SlotPlace> slots;  // those of the plan, then compile.mm's own
  Buffer activations, arguments, tokens, entries;
  std::vector<Dispatch> dispatches;
  std::vector<Run> runs;  // of the dispatches; one if nothing streams
  uint64_t table_row_bytes = 0;  // of each row of the submit, if the host gathers them
  uint64_t result_bytes = 0;  // at most
  bool candidates_on_host = false;
};

class DeviceProgram final : public Program {
 public:
  DeviceProgram(std::shared_ptr<const LoadedParts> model, const Shape& shape);
  ~DeviceProgram() override;

  Ticket submit(std::span<const Sequence> sequences) override;
  Result wait(Ticket ticket) override;
  uint32_t max_in_flight() const override { return static_cast<uint32_t>(flights_.size()); }
  uint64_t scratch_bytes() const override;
  OpTimes profile(std::span<const Sequence> sequences) override;
  void write_slot(SlotId slot, std::span<const float> values) override;
  void read_slot(SlotId slot, std::span<float> values) const override;

 private:
  // The numbers of one submit that grids depend on.
  struct Work {
    uint32_t rows = 0, sequences = 0, head_rows = 0, bias = 0;
  };
  // Sequences whose states lie in the same blocks.
  struct Range {
    id<MTLBuffer> in = nil, out = nil;
    StateRange first{};
    uint32_t sequences = 0, rows = 0;
  };
  // One submit under way, and its memory.
  struct Flight {
    Ticket ticket = 0;  // 0: free
    Buffer parameters, bias, results, table_rows;
    std::vector<CommandBuffer> commands;
    Work work;
    CandidateLists candidates;
  };

  void check(std::span<const Sequence> sequences) const;
  void prepare(std::span<const Sequence> sequences, Flight& flight);
  void gather_table_rows(std::span<const Sequence> sequences, Flight& flight);
  void prepare_bias(std::span<const Sequence> sequences, Flight& flight);
  void prepare_states(std::span<const Sequence> sequences, Flight& flight);
  Flight& free_flight();
  // Whether the submit brings it anything to do; the driver drops an encoder without work, with its label and its samples.
  static bool has_work(const Dispatch& dispatch, const Flight& flight) {
    return dispatch.grid != Grid::Bias || flight.work.bias != 0;
  }
  void encode(const CommandBuffer& commands, size_t begin, size_t end, const Flight& flight) const;
  void submitted(std::span<const Sequence> sequences);
  Result unpack(Flight& flight);
  // program_profile.mm: microseconds of each dispatch.
  std::vector<double> timestamps(const Flight& flight, id<MTLCounterSet> counters, std::vector<UploadTime>& uploads) const;
  std::vector<double> one_by_one(const Flight& flight, std::vector<UploadTime>& uploads) const;
  void time_upload(const Run& run, std::vector<UploadTime>& uploads) const;

  // Writes dispatches into an encoder; what is bound already is not bound again.
  class Encoding {
   public:
    // concurrent: the encoder runs dispatches side by side where no barrier is between them.
    Encoding(const DeviceProgram& program, const Flight& flight, id<MTLComputeCommandEncoder> encoder, bool concurrent)
        : program_(program), flight_(flight), encoder_(encoder), concurrent_(concurrent) {}
    void add(const Dispatch& dispatch);

   private:
    struct Bound {
      id<MTLBuffer> buffer = nil;
      uint64_t offset = 0;
    };
    void bind(uint32_t index, id<MTLBuffer> buffer, uint64_t offset);
    void bind(const Binding& binding);

    const DeviceProgram& program_;
    const Flight& flight_;
    id<MTLComputeCommandEncoder> encoder_;
    const bool concurrent_;
    const Kernel* kernel_ = nullptr;
    uint32_t threadgroup_bytes_ = 0;
    std::array<Bound, BUFFER_VECTOR_7 + 1> bound_{};
  };

  SequenceInfo* sequence_infos(const Flight& flight) const;
  RowInfo* row_infos(const Flight& flight) const;
  uint64_t sequences_offset() const;
  uint64_t rows_offset() const;

  std::shared_ptr<const LoadedParts> model_;
  Shape shape_;
  Compiled compiled_;
  std::vector<Flight> flights_;
  std::vector<Range> ranges_;  // of the submit that is being made
  Ticket last_ticket_ = 0;
  bool has_choice_ = false;  // a token chosen by an earlier submit is on the device
  std::vector<int32_t> chosen_;  // the same, on the host, if that gathers the table's rows
};

// compile.mm
Compiled compile(const LoadedParts& model, const Shape& shape);

inline constexpr uint32_t kMaxBiased = 1 << 16;  // biased tokens of one submit

}  // namespace rwkvnative::metal
