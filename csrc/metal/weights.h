// The weights of a plan where the GPU reads them: in the model file's own pages where the file's layout is good for
// 16-byte loads (floats, Q4_K, Q5_K), in packed buffers (core/pack.h) where it is not.
//
// Where they do not fit a budget some units (core/residency.h) stream: the file's pages are wrapped only while a unit is
// used, and packed rows go through a slot (stream.h). The host then gathers the rows of the embedding table.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "core/plan.h"
#include "core/residency.h"
#include "metal/device.h"

namespace rwkvnative::metal {

inline constexpr uint32_t kNoWindow = UINT32_MAX;

// Rows of a tensor where kernels find them: all of them, but for a head that streams in pieces.
struct PlacedRows {
  uint32_t first_row = 0, rows = 0;
  id<MTLBuffer> buffer = nil;   // of Weights; nil: in `window`
  uint32_t window = kNoWindow;  // of Weights::windows()
  uint64_t offset = 0;          // of first_row, in bytes, a multiple of 16
  uint64_t row_bytes = 0;
  uint32_t unit = kNoUnit;      // that it streams with

  // What one binding reaches.
  std::pair<id<MTLBuffer>, uint32_t> memory() const { return {buffer, window}; }
};

// Whole pages of the model file that are a buffer only while their unit is used.
struct Window {
  const std::byte* pages = nullptr;
  uint64_t bytes = 0;
};

// What goes through a slot for a streamed unit.
struct Passing {
  struct Packed {
    TensorId tensor = kNone;
    uint32_t first_row = 0, rows = 0;
    uint64_t offset = 0;  // within the slot
  };
  std::vector<uint32_t> windows;
  std::vector<Packed> packed;
  std::vector<std::span<const std::byte>> in_place;  // of the file
};

// What loading may use.
struct WeightLimits {
  uint64_t budget = 0;   // bytes for everything; 0: no limit
  uint64_t working = 0;  // of them for what is not weights
};

class Weights {
 public:
  // Decides what streams, wraps and packs the rest, telling `progress` bytes of the file. Throws OutOfDeviceMemory if the
  // device has no room, BudgetTooSmall. The bytes that the plan's tensors point to must outlive this.
  Weights(const Device& device, const Plan& plan, const WeightLimits& limits,
          const std::function<void(uint64_t, uint64_t)>& progress);
  // Waits for work that may read the weights.
  ~Weights();

  std::span<const PlacedRows> pieces(TensorId id) const { return places_.at(static_cast<size_t>(id)); }
  // Of a tensor that is in one piece: any but the head's matrix.
  const PlacedRows& operator[](TensorId id) const { return places_.at(static_cast<size_t>(id)).at(0); }
  // Whether kernels or the host read the file's pages.
  bool reads_file() const { return !wrapped_.empty() || streams(); }
  // Bytes allocated beside the file's pages.
  uint64_t device_bytes() const;

  const std::vector<Unit>& units() const { return units_; }
  bool streams() const;
  bool table_on_host() const { return table_on_host_; }
  const std::vector<Window>& windows() const { return windows_; }
  const Passing& passing(uint32_t unit) const { return passing_.at(unit); }
  const Buffer& slot(uint32_t slot) const { return slots_.at(slot); }

 private:
  // Rows that are placed as a whole.
  struct Piece {
    TensorId tensor = kNone;
    uint32_t first_row = 0, rows = 0;
    uint32_t unit = kNoUnit;  // its layer, or its part of the head
    bool of_table = false;
    bool in_place = false;  // read from the file's pages
  };
  // In-place pieces that lie close together, in whole pages.
  struct Cluster {
    const std::byte* pages = nullptr;
    uint64_t bytes = 0;
    std::vector<uint32_t> pieces;
  };

  void cut(const Plan& plan, uint64_t head_limit);
  Demand demand(const Plan& plan, uint64_t working) const;
  std::vector<Cluster> clusters(const Plan& plan, bool by_unit) const;
  // kNoUnit if the piece stays.
  uint32_t streamed_unit(const Piece& piece) const;
  void place(const Piece& piece, const PlacedRows& where);
  void wrap(const Plan& plan);
  void copy(const Plan& plan, const std::function<void(uint64_t, uint64_t)>& progress);
  void make_slots(const Plan& plan);

  const Device& device_;
  std::vector<Piece> pieces_;  // in the order of the tensors, and of their rows
  std::vector<std::vector<PlacedRows>> places_;
  std::vector<Unit> units_;
  bool table_on_host_ = false;
  std::vector<Buffer> wrapped_, copied_, slots_;
  std::vector<Window> windows_;
  std::map<uint32_t, Passing> passing_;
};

// Whether kernels read the type's rows as the file stores them.
bool reads_file_layout(DType type);
// Pieces of a row that a kernel's thread takes at once: 8 values of a float type, 32 of a quantized one.
uint32_t row_items(const Tensor& tensor);
// Bytes of a row in a buffer of our own, and rows put there, by several threads.
uint64_t copied_row_bytes(const Tensor& tensor);
void copy_rows(const Tensor& tensor, uint64_t first_row, uint64_t rows, std::byte* out);
// The file's bytes of packed rows.
std::span<const std::byte> rows_of(const Plan& plan, const Passing::Packed& packed);

}  // namespace rwkvnative::metal
