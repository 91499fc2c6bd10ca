// From a plan's ops to dispatches. One method per kind of op; the kernels they choose are in kernels/.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <tuple>

#include "webgpu/matmat_tiles.h"
#include "webgpu/part_text.h"
#include "webgpu/program.h"
#include "webgpu/shader.h"
#include "webgpu/weight_tiles.h"

namespace rwkvnative::webgpu {

// How a matrix meets many rows of activations: kernels/matmat*.wgsl. None: as a mat-vec (kernels/linear.wgsl).
enum class MatMat : uint32_t {
  None,
  Matrix,  // subgroup matrices of float16 with float32 sums
  Plain,   // what goes around them, with a plain loop in their place: for tests on devices that have none
  Float,   // float32
};

constexpr uint32_t kTiledRows = 64;      // of the largest tile of a product whose weights are kept tiles
constexpr uint32_t kPlainThreads = 128;  // of the product without subgroup matrices
constexpr uint32_t kMostRowThreads = 512;  // of a workgroup that makes a whole row

inline uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

class Compiler {
 public:
  Compiler(const LoadedParts& model, const Shape& shape);
  Compiled run();
  ProgramSize size();

 private:
  // compile_slots.cpp
  void plan_slots();
  void lay_out();
  void allocate();
  // compile_norms.cpp
  void add(const EmbedOp& op, size_t op_index);
  void add(const ShiftMixOp& op, size_t op_index);
  // The text of shift_mix.wgsl but its entry; `chunk`: quads of a row that a workgroup makes.
  ShaderText shift_mix_text(const ShiftMixOp& op, size_t op_index, uint32_t& chunk) const;
  void add(const HeadOp& op, size_t op_index);
  void add_quantize(size_t slot, Grid grid);
  uint32_t norm_workgroup(uint32_t least_threads) const;
  uint32_t norm_chunk(uint32_t mixes) const;
  ShaderText begin_norm(uint32_t width, float epsilon, uint32_t workgroup, uint32_t lanes) const;
  // compile_carry.cpp
  // Marks the dispatches from `begin` on as readers of a unit, if it streams.
  void mark_unit(size_t begin, uint32_t unit);
  void find_runs();
  bool can_carry(size_t dispatch) const;
  void add_carries();
  void request_kernels();
  // compile_linear.cpp
  void add(const LinearOp& op, size_t op_index);
  // A matrix of a dispatch, whichever kernel multiplies it; in, out: slots.
  struct LinearMatrix {
    TensorId weight;
    size_t in, out;
    Activation activation;
    bool accumulate;
    bool float_input = false;  // float32 activations even where the weight is quantized
  };
  static std::vector<LinearMatrix> linear_matrices(const LinearOp& op);
  // Rows of one of `matrices`, where a group has them.
  struct PlacedMatrix {
    size_t number;  // among `matrices`
    const LinearMatrix& matrix;
    const PlacedRows& rows;
    const Tensor& weight;
    const SlotPlace& in;
    const SlotPlace& out;
    bool int8;  // as which it meets the activations; of the kernels of many rows it says nothing

    // One kernel function serves all matrices that agree in these.
    std::tuple<DType, uint32_t, bool> kind() const { return {weight.type, weight.ne0, int8}; }
    PartFields part(uint32_t kind, bool quantize_out) const;
  };
  // Those that the group has rows of, in its order; it may have other tensors too.
  std::vector<PlacedMatrix> placed_matrices(const WeightGroup& group, std::span<const LinearMatrix> matrices) const;
  // Of the group's whole tensors: how a head is cut must not change its sums.
  uint32_t whole_rows(const WeightGroup& group) const;
  bool quantizes_out(const LinearMatrix& matrix) const;  // rather than quantize.wgsl after it
  void add_linear(const std::string& label, std::span<const LinearMatrix> matrices, std::span<const WeightGroup> groups,
                  bool of_head);
  struct LinearKind;
  std::string linear_kind_text(const LinearKind& kind, const PlacedMatrix& placed, bool quantize_out) const;
  // compile_columns.cpp
  struct ColumnKind;
  struct ColumnWork;
  uint32_t column_workgroup(const ColumnWork& work) const;
  void spread(ColumnKind& kind, const ColumnWork& work) const;
  std::string column_kind_text(const ColumnKind& kind, const PlacedMatrix& placed, const ColumnWork& work) const;
  void add_columns(const std::string& label, std::span<const LinearMatrix> matrices, std::span<const WeightGroup> groups,
                   bool of_head);
  std::string row_sum(uint32_t lanes, bool wide) const;
  // compile_matmat.cpp
  struct Tiling {
    MatMat form;
    MatMatTile tile;
    uint32_t threads;                                                  // of a workgroup
    uint32_t step() const { return form == MatMat::Float ? 32 : 64; }  // inputs at a time
  };
  // Where the sums of an op's matrix go until reduce.wgsl finishes them; `splits` workgroups share a tile of it.
  struct Unfinished {
    uint32_t splits = 1;
    bool direct = true;  // none do: what is finished at once
    uint32_t sums = 0, width = 0, rows = 0;
  };
  // Those of a slot whose reader adds them up itself.
  struct KeptSums {
    Unfinished place;
    uint32_t scales = 0;  // vec4 of the factors of the rows that were multiplied
    float unscale = 1;    // what undoes the scale of the matrix
  };
  bool readers_add_sums() const;
  bool reader_adds_sums(const LinearMatrix& matrix) const;
  MatMat matmat(uint32_t rows) const;
  static bool takes_halves(MatMat form) { return form == MatMat::Matrix || form == MatMat::Plain; }
  Tiling tiling(uint32_t rows) const;
  uint32_t splits(std::span<const LinearMatrix> matrices, uint32_t rows) const;
  std::vector<Unfinished> unfinished(std::span<const LinearMatrix> matrices, uint32_t rows) const;
  bool may_finish(uint32_t rows) const;
  uint64_t sums_values() const;
  void begin_product(ShaderText& text, const Tiling& tiling, size_t parts, bool once) const;
  struct ProductKinds {
    std::vector<DType> types;
    size_t parts = 0;  // of the op that has most
  };
  ProductKinds product_kinds() const;
  ProductKinds products_;
  std::string matmat_text(const Tiling& tiling, const std::vector<DType>& kinds, size_t parts) const;
  void add_matmat(const std::string& label, std::span<const LinearMatrix> matrices, std::span<const WeightGroup> groups,
                  bool of_head, uint32_t rows_at_once);
  void add_reduce(const std::string& label, std::span<const LinearMatrix> matrices, std::span<const Unfinished> places, bool halves);
  uint32_t reduce_threads() const;
  uint32_t reduce_workgroups(uint32_t width) const;
  const Magnitude& magnitude(TensorId id) const { return model_.magnitude(id); }
  bool bounds_out(const Wkv7Op& op, const Op* before) const;
  const SlotPlace* noted_largest(const LinearMatrix& matrix) const;
  // The constants of kernels that add up sums, called `name` and more.
  static void include_sums(ShaderText& text, const std::string& name, const KeptSums& sums);
  BindGroupHandle bind_parts(const std::string& label, Bindings bindings, const WeightGroup* group, std::span<const uint32_t> table);
  BindGroupHandle bind_parts(const std::string& label, Bindings bindings, Pipelines::Range weights,
                             std::span<const uint32_t> table);
  void add_pack(std::span<const LinearMatrix> matrices, bool of_head);
  void include_half_tiles(ShaderText& text) const;
  // What kernels that write float16 rows include: `binding` is where.
  void include_halves(ShaderText& text, uint32_t binding, uint32_t rows, uint32_t workgroup) const;
  // compile_tiles.cpp
  struct TiledGroup {
    std::map<TensorId, TilePlace> places;
    WGPUBuffer buffer = nullptr;
  };
  void choose_tiles();
  TiledGroup tiled_group(std::span<const LinearMatrix> matrices, const WeightGroup& group) const;
  Tiling tiled(Tiling tiling) const;
  Substitutions tiles_loop(const MatMatTile& tile, uint32_t loads, bool finishes) const;
  std::string tiles_product_text(const Tiling& tiling, size_t parts, bool finishes) const;
  // compile_wkv7.cpp
  void add(const Wkv7Op& op, size_t op_index);
  std::vector<LinearMatrix> second_loras(const Wkv7Op& op) const;
  void check_wkv7(const Wkv7Op& op) const;
  void wkv7_vectors(ShaderText& text, const Wkv7Op& op, const WeightGroup& group) const;
  void add_wkv7(const Wkv7Op& op, size_t op_index);
  // kernels/wkv7_rows.wgsl: threads of a workgroup, 0 where the head size does not suit it; where its outputs are.
  static std::string wkv7_rows_label(const Wkv7Op& op);
  uint32_t wkv7_rows_threads() const;
  std::array<std::pair<const char*, uint32_t>, 4> wkv7_rows_outs() const;
  void add_wkv7_rows(const Wkv7Op& op, size_t op_index);
  // compile_many.cpp
  void add_shift_mix_many(const ShiftMixOp& op, size_t op_index);
  void add_wkv7_many(const Wkv7Op& op, size_t op_index);
  std::vector<uint32_t> wkv7_step_loras(ShaderText& text);
  Substitutions wkv7_step_halves(ShaderText& text, const Wkv7Op& op, uint32_t workgroup, std::vector<uint32_t>& scalars) const;
  uint32_t row_workgroup(uint32_t quads, uint32_t most = kMostRowThreads) const;
  ShaderText begin_row(uint32_t width, uint32_t workgroup) const;
  // A kernel that replaces a part of the states of many sequences; `text` lacks only their snippet, the file `states`. `element` is
  // the WGSL type that it sees a state as.
  void dispatch_states(const std::string& label, ShaderText text, const char* element, uint32_t element_bytes, Bindings bindings,
                       BindGroupHandle group, Grid grid, uint32_t x, uint32_t layer, uint32_t state_part,
                       const char* states = "states");
  // compile_fused.cpp
  // Adds the ops from op_index on as fewer dispatches and returns how many ops those were: 0 where they do not lend themselves
  // to it.
  size_t add_fused(size_t op_index);
  struct MixedMatrix;
  struct MixedShape {
    uint32_t width = 0, workgroup = 0, most_lanes = 0;
    bool quantize_out = false, any_codes = false, any_values = false;
    uint32_t quads() const { return ceil_div(width, 4); }
    uint32_t octets() const { return ceil_div(width, 8); }
  };
  MixedShape mixed_shape(const LinearOp& linear, uint32_t width) const;
  bool fits(const MixedShape& shape) const;
  ShaderText begin_mixed(const MixedShape& shape, float epsilon) const;
  uint32_t add_mixed_parts(ShaderText& text, const MixedShape& shape, const LinearOp& linear, const WeightGroup& group,
                           const std::function<uint32_t(const LinearMatrix&)>& input, const std::string& own_case);
  bool add_mix_linear(const ShiftMixOp& mix, const LinearOp& linear, size_t op_index);
  bool heads_mix(size_t op_index);
  void add_heads_linear(const Wkv7Op& wkv7, const LinearOp& linear, size_t op_index);
  std::string mixed_matrix_text(const MixedMatrix& matrix, const MixedShape& shape, const PlacedMatrix& placed,
                                uint32_t units) const;
  bool covers_state() const;
  // compile_choice.cpp
  void add_choice();
  BindGroupHandle bind_choice(const char* label) const;
  void add_bias();
  void add_argmax();
  void add_candidates();
  // compile_draw.cpp
  void add_draw();

  // compile.cpp
  // Throws DeviceError if a dispatch may have more workgroups along a dimension than the device allows.
  void check_grids() const;

  // What all of them ask.
  struct SlotUse {
    bool values = false, codes = false, halves = false;  // read as float32, as int8, as float16
    bool codes_by_producer = true;       // else quantize.wgsl after it
    bool halves_by_producer = false;     // else pack_halves.wgsl before it is read
    bool bounded = false;                // wkv7_step.wgsl, which makes them from a bound
    bool length = false;                 // a product whose outputs become float16 bounds them by the rows' lengths
  };
  bool reads_codes(TensorId weight) const;
  bool is_head_row_count() const { return shape_.readout == Readout::AllLogits; }
  uint32_t head_rows() const { return is_head_row_count() ? shape_.rows : shape_.sequences; }
  uint32_t tile(uint32_t rows) const;
  bool one_token() const { return shape_.rows == 1 && shape_.sequences == 1; }
  bool crowd() const { return shape_.sequences > 1 && shape_.rows == shape_.sequences; }  // a token for each of many
  const SlotPlace& slot(size_t id) const { return compiled_.activations[id]; }
  const Tensor& vector(TensorId id) const;  // F32, or throws

  // Constants and the reduction snippet for a kernel whose groups of neighbouring threads are at most `lanes` wide.
  ShaderText begin(uint32_t workgroup, uint32_t lanes) const;
  bool use_subgroups(uint32_t workgroup, uint32_t lanes) const;

  void dispatch(const std::string& label, const std::string& source, Bindings bindings, BindGroupHandle group, Grid grid,
                uint32_t x, uint32_t tile = 1, uint32_t state_part = 0);
  // A kernel of a program for one token that replaces a part of the state; `text` lacks only the snippet for the state. `element` is
  // the WGSL type that it sees the state as.
  void dispatch_state(const std::string& label, const ShaderText& text, const char* element, const WeightGroup& group,
                      Grid grid, uint32_t x, uint32_t layer, uint32_t state_part);
  // Takes the constants for a kind of dispatch.
  void tune(const std::string& label) { tuning_ = tuned_.of(shape_.rows == 1, label); }

  // What the next dispatch() costs, for the profiler: a matrix that it multiplies, or anything else.
  void count(const PlacedRows& rows, const Tensor& matrix, bool int8);
  Cost cost_;
  int32_t layer_ = -1;  // of the op that is being compiled
  const Op* next_ = nullptr;          // the one behind it
  std::map<size_t, KeptSums> kept_;   // by slot, from its producer to its reader

  BindGroupHandle bind_main(const std::string& label, const WeightGroup* group, bool halves = false) const;

  const LoadedParts& model_;
  const Device& device_;
  const Tuned& tuned_;
  Tuning tuning_;  // of the kind of dispatch that is being compiled
  const Plan& plan_;
  const Shape& shape_;
  uint32_t max_threads_ = 256;
  uint32_t subgroup_max_ = 1;
  std::vector<SlotUse> uses_;
  struct Text {
    std::string source;
    Bindings bindings;
  };
  std::vector<Text> texts_;  // of the dispatches, until all of a streaming program are known
  Compiled compiled_;
};

std::string lower(std::string_view name);
inline bool is_float(DType type) { return traits(type).block_values == 1; }
// What a matrix row is read by: units of 32 values, or where the weights are floats octets.
inline uint32_t row_units(const Tensor& weight) { return is_float(weight.type) ? ceil_div(weight.ne0, 8) : weight.ne0 / 32; }
// Whether a unit's halves have scales of their own: the dot products of kernels/dot_int8.wgsl are named after that.
bool scales_sixteens(DType type);
// compile.cpp: what a text that reads rows of matrices lacks in a layout.
std::string layout_text(const std::string& source, uint32_t layout);
// compile_matmat.cpp: the switch cases that call `begin``type``end` for each type; the last one is the default.
std::string by_kind(const std::vector<DType>& kinds, std::string_view begin, std::string_view end);
// compile_tiles.cpp: what kernels that read or write tiled weights include.
void include_weight_tiles(ShaderText& text, const MatrixShape& shape);
// Whether no value that it gives is larger than 1.
inline bool is_bounded(Activation activation) { return activation == Activation::Tanh || activation == Activation::Sigmoid; }
// The constants of kernels/activate.wgsl.
uint32_t activation_number(Activation activation, bool accumulate);
constexpr uint32_t kMostWide = 64;  // threads of a row, where they may be more than a subgroup has
// The threads of a matrix row of so many steps: as many as possible, if they have nearly as little idle time in the last step as
// fewer would have; and more where `rows` such rows would not make `threads` threads.
uint32_t choose_lanes(uint32_t steps, uint32_t most, uint32_t rows, uint32_t threads);

}  // namespace rwkvnative::webgpu
