#include "metal/weights.h"

#include <algorithm>
#include <cstring>

#include "core/cost.h"
#include "core/error.h"
#include "core/pack.h"
#include "core/parallel.h"

namespace rwkvnative::metal {
namespace {

constexpr uint64_t kAlignment = 16;          // of what kernels load at once
constexpr uint64_t kCopyBytes = 1ull << 30;  // of one packed buffer, unless a single tensor is larger
constexpr uint64_t kMaxGap = 1 << 20;        // bytes between two tensors that one wrapped buffer may hold uselessly
constexpr uint64_t kProgressBytes = 16 << 20;
constexpr uint32_t kPieceRows = 32;  // a piece of the head has a multiple of so many

uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
uintptr_t address(const std::byte* data) { return reinterpret_cast<uintptr_t>(data); }

bool is_float(DType type) { return traits(type).block_values == 1; }
// Quantized types that are read as the file stores them are only moved.
bool is_moved(DType type) { return reads_file_layout(type) && !is_float(type); }

bool can_wrap(const Tensor& tensor) {
  if (!reads_file_layout(tensor.type) || address(tensor.data) % kAlignment != 0) return false;
  // Kernels read whole items; the end of the last row must be one.
  return tensor.row_bytes % kAlignment == 0 && (!is_float(tensor.type) || tensor.ne0 % 8 == 0);
}

struct CollectTensors {
  std::vector<TensorId> operator()(const EmbedOp& op) const { return {op.norm_weight, op.norm_bias, op.table}; }
  std::vector<TensorId> operator()(const ShiftMixOp& op) const { return {op.norm_weight, op.norm_bias, op.lerp}; }
  std::vector<TensorId> operator()(const LinearOp& op) const {
    std::vector<TensorId> ids;
    for (const LinearPart& part : op.parts) ids.push_back(part.weight);
    return ids;
  }
  std::vector<TensorId> operator()(const Wkv7Op& op) const {
    return {op.w2, op.a2, op.v2, op.g2, op.w0, op.a0, op.v0, op.k_k, op.k_a, op.r_k, op.norm_weight, op.norm_bias};
  }
  std::vector<TensorId> operator()(const HeadOp& op) const { return {op.norm_weight, op.norm_bias, op.weight}; }
};

}  // namespace

bool reads_file_layout(DType type) { return is_float(type) || type == DType::Q4_K || type == DType::Q5_K; }

uint32_t row_items(const Tensor& tensor) { return is_float(tensor.type) ? (tensor.ne0 + 7) / 8 : tensor.ne0 / 32; }

uint64_t copied_row_bytes(const Tensor& tensor) {
  return is_moved(tensor.type) ? tensor.row_bytes : packed_row_bytes(tensor.type, tensor.ne0);
}

void copy_rows(const Tensor& tensor, uint64_t first_row, uint64_t rows, std::byte* out) {
  const uint64_t row_bytes = copied_row_bytes(tensor);
  in_parallel(rows, rows * row_bytes, [&](uint64_t begin, uint64_t end) {
    if (begin >= end) return;
    const std::byte* in = tensor.data + (first_row + begin) * tensor.row_bytes;
    if (is_moved(tensor.type)) {
      std::memcpy(out + begin * row_bytes, in, (end - begin) * row_bytes);
    } else {
      pack_rows(tensor.type, tensor.ne0, in, tensor.row_bytes, end - begin, out + begin * row_bytes);
    }
  });
}

std::span<const std::byte> rows_of(const Plan& plan, const Passing::Packed& packed) {
  const Tensor& tensor = plan.tensor(packed.tensor);
  return {tensor.data + packed.first_row * tensor.row_bytes, packed.rows * tensor.row_bytes};
}

Weights::Weights(const Device& device, const Plan& plan, const WeightLimits& limits,
                 const std::function<void(uint64_t, uint64_t)>& progress)
    : device_(device), places_(plan.tensors.size()) {
  cut(plan, UINT64_MAX);
  if (limits.budget != 0) {
    Demand wanted = demand(plan, limits.working);
    uint64_t all = wanted.always + wanted.table + wanted.working, layer = 0;
    for (const Unit& unit : units_) {
      all += unit.bytes;
      if (!unit.of_head) layer = std::max(layer, unit.bytes);
    }
    if (all > limits.budget && layer != 0) {
      cut(plan, layer);
      wanted = demand(plan, limits.working);
    }
    table_on_host_ = !choose_residency("metal", units_, wanted, limits.budget);
  }
  if (table_on_host_) std::erase_if(pieces_, [](const Piece& piece) { return piece.of_table; });
  wrap(plan);
  copy(plan, progress);
  make_slots(plan);
}

Weights::~Weights() { device_.finish_all(); }

// A unit a layer; of the head, pieces of at most `head_limit` bytes.
void Weights::cut(const Plan& plan, uint64_t head_limit) {
  pieces_.clear();
  units_.clear();
  std::vector<uint32_t> unit_of(plan.tensors.size(), kNoUnit);
  TensorId table = kNone, head = kNone;
  int32_t layer = -1;
  for (const Op& op : plan.ops) {
    const int32_t before = std::exchange(layer, layer_of(op, layer));
    if (layer >= 0 && layer != before) units_.push_back({.name = message("layer ", layer)});
    for (TensorId id : std::visit(CollectTensors{}, op)) {
      if (id != kNone && layer >= 0) unit_of[static_cast<size_t>(id)] = static_cast<uint32_t>(units_.size() - 1);
    }
    if (const auto* embed = std::get_if<EmbedOp>(&op)) table = embed->table;
    if (const auto* of_head = std::get_if<HeadOp>(&op)) head = of_head->weight;
  }
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const Tensor& tensor = plan.tensors[i];
    const bool is_head = static_cast<TensorId>(i) == head;
    uint64_t at_once = tensor.ne1;
    if (is_head) at_once = std::clamp<uint64_t>(head_limit / tensor.row_bytes / kPieceRows * kPieceRows, kPieceRows, tensor.ne1);
    for (uint64_t row = 0; row < tensor.ne1; row += at_once) {
      Piece piece{.tensor = static_cast<TensorId>(i),
                  .first_row = static_cast<uint32_t>(row),
                  .rows = static_cast<uint32_t>(std::min<uint64_t>(at_once, tensor.ne1 - row)),
                  .unit = unit_of[i],
                  .of_table = static_cast<TensorId>(i) == table};
      if (is_head) {
        piece.unit = static_cast<uint32_t>(units_.size());
        units_.push_back({.name = message("head, rows ", row, " to ", row + piece.rows - 1), .of_head = true});
      }
      piece.in_place = device_.options().nocopy && can_wrap(tensor) &&
                       piece.rows * tensor.row_bytes + 2 * kPage <= device_.max_buffer();
      pieces_.push_back(piece);
    }
  }
  for (const Cluster& cluster : clusters(plan, true)) {
    const uint32_t unit = pieces_[cluster.pieces[0]].unit;
    if (unit != kNoUnit) units_[unit].bytes += cluster.bytes;
  }
  for (const Piece& piece : pieces_) {
    if (piece.unit != kNoUnit && !piece.in_place)
      units_[piece.unit].bytes += round_up(copied_row_bytes(plan.tensor(piece.tensor)) * piece.rows, kAlignment);
  }
}

Demand Weights::demand(const Plan& plan, uint64_t working) const {
  Demand demand{.always = 0, .table = 0, .working = working};
  for (const Cluster& cluster : clusters(plan, true)) {
    const Piece& piece = pieces_[cluster.pieces[0]];
    if (piece.unit == kNoUnit) (piece.of_table ? demand.table : demand.always) += cluster.bytes;
  }
  for (const Piece& piece : pieces_) {
    if (piece.unit == kNoUnit && !piece.in_place)
      (piece.of_table ? demand.table : demand.always) +=
          round_up(copied_row_bytes(plan.tensor(piece.tensor)) * piece.rows, kAlignment);
  }
  return demand;
}

uint32_t Weights::streamed_unit(const Piece& piece) const {
  return piece.unit != kNoUnit && units_[piece.unit].streams() ? piece.unit : kNoUnit;
}

// by_unit: no cluster has pieces of two units, or the table's and others; else only of streamed units.
std::vector<Weights::Cluster> Weights::clusters(const Plan& plan, bool by_unit) const {
  const auto data = [&](const Piece& piece) {
    const Tensor& tensor = plan.tensor(piece.tensor);
    return tensor.data + uint64_t{piece.first_row} * tensor.row_bytes;
  };
  const auto kind = [&](const Piece& piece) {
    return by_unit ? std::pair(piece.unit, piece.of_table) : std::pair(streamed_unit(piece), false);
  };
  std::vector<uint32_t> order;
  for (uint32_t i = 0; i < pieces_.size(); ++i) {
    if (pieces_[i].in_place) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return data(pieces_[a]) < data(pieces_[b]); });
  const uint64_t most = device_.max_buffer() / kPage * kPage;
  std::vector<Cluster> clusters;
  uint64_t end = 0;  // of the last cluster's bytes, before rounding
  for (uint32_t i : order) {
    const Piece& piece = pieces_[i];
    const uintptr_t begin = address(data(piece));
    const uint64_t bytes = piece.rows * plan.tensor(piece.tensor).row_bytes;
    Cluster* last = clusters.empty() ? nullptr : &clusters.back();
    if (last == nullptr || kind(pieces_[last->pieces[0]]) != kind(piece) || begin > end + kMaxGap ||
        round_up(begin + bytes - address(last->pages), kPage) > most) {
      clusters.push_back({.pages = reinterpret_cast<const std::byte*>(begin / kPage * kPage), .bytes = 0, .pieces = {}});
      last = &clusters.back();
      end = 0;
    }
    end = std::max<uint64_t>(end, begin + bytes);
    last->bytes = round_up(end - address(last->pages), kPage);
    last->pieces.push_back(i);
  }
  return clusters;
}

void Weights::place(const Piece& piece, const PlacedRows& where) {
  std::vector<PlacedRows>& places = places_[static_cast<size_t>(piece.tensor)];
  // In the order of the rows: wherever a head's pieces are, they are computed in turn.
  const auto after = std::find_if(places.begin(), places.end(),
                                  [&](const PlacedRows& other) { return other.first_row > piece.first_row; });
  PlacedRows& placed = *places.insert(after, where);
  placed.first_row = piece.first_row;
  placed.rows = piece.rows;
  placed.unit = streamed_unit(piece);
}

void Weights::wrap(const Plan& plan) {
  for (const Cluster& cluster : clusters(plan, false)) {
    const uint32_t unit = streamed_unit(pieces_[cluster.pieces[0]]);
    PlacedRows where;
    if (unit != kNoUnit) {
      where.window = static_cast<uint32_t>(windows_.size());
      windows_.push_back({cluster.pages, cluster.bytes});
      passing_[unit].windows.push_back(where.window);
    } else {
      Buffer buffer = device_.wrap(plan.tensor(pieces_[cluster.pieces[0]].tensor).name + " ...", cluster.pages, cluster.bytes);
      where.buffer = buffer.get();
      if (buffer) wrapped_.push_back(std::move(buffer));
    }
    for (uint32_t i : cluster.pieces) {
      Piece& piece = pieces_[i];
      piece.in_place = unit != kNoUnit || where.buffer != nil;  // what the device refuses is copied
      if (!piece.in_place) continue;
      const Tensor& tensor = plan.tensor(piece.tensor);
      const std::byte* data = tensor.data + uint64_t{piece.first_row} * tensor.row_bytes;
      where.row_bytes = tensor.row_bytes;
      where.offset = address(data) - address(cluster.pages);
      place(piece, where);
      if (unit != kNoUnit) passing_[unit].in_place.emplace_back(data, piece.rows * tensor.row_bytes);
    }
  }
}

// What stays, into large buffers.
void Weights::copy(const Plan& plan, const std::function<void(uint64_t, uint64_t)>& progress) {
  // Places first: how large each buffer is.
  struct Place {
    const Piece* piece;
    size_t buffer;
    uint64_t offset;
  };
  std::vector<Place> places;
  std::vector<uint64_t> sizes;
  uint64_t total = 0, done = 0;
  for (const Piece& piece : pieces_) {
    const Tensor& tensor = plan.tensor(piece.tensor);
    if (streamed_unit(piece) != kNoUnit) continue;
    total += piece.rows * tensor.row_bytes;
    if (piece.in_place) {
      done += piece.rows * tensor.row_bytes;
      continue;
    }
    const uint64_t bytes = copied_row_bytes(tensor) * piece.rows;
    if (bytes > device_.max_buffer()) {
      throw DeviceError(message("[metal] ", device_.info().name, ": ", tensor.name, " needs a buffer of ", bytes,
                                " bytes, the device allows ", device_.max_buffer()));
    }
    if (sizes.empty() || sizes.back() + bytes > std::min(std::max(kCopyBytes, bytes), device_.max_buffer()))
      sizes.push_back(0);
    places.push_back({&piece, sizes.size() - 1, sizes.back()});
    sizes.back() = round_up(sizes.back() + bytes, kAlignment);
  }
  for (size_t i = 0; i < sizes.size(); ++i) copied_.push_back(device_.create_buffer(message("weights ", i), sizes[i]));
  if (progress) progress(done, total);
  for (const Place& at : places) {
    const Tensor& tensor = plan.tensor(at.piece->tensor);
    const uint64_t row_bytes = copied_row_bytes(tensor);
    const Buffer& buffer = copied_[at.buffer];
    const uint64_t at_once = std::max<uint64_t>(1, kProgressBytes / row_bytes);
    for (uint64_t row = 0; row < at.piece->rows; row += at_once) {
      const uint64_t rows = std::min<uint64_t>(at_once, at.piece->rows - row);
      copy_rows(tensor, at.piece->first_row + row, rows, buffer.contents() + at.offset + row * row_bytes);
      done += rows * tensor.row_bytes;
      if (progress) progress(done, total);
    }
    place(*at.piece, {.buffer = buffer.get(), .offset = at.offset, .row_bytes = row_bytes});
  }
}

// Room for the packed rows of streamed units, which WeightStream fills.
void Weights::make_slots(const Plan& plan) {
  if (!streams()) return;
  std::vector<uint64_t> filled(units_.size(), 0), sizes(kSlots, 0);
  for (const Piece& piece : pieces_) {
    const uint32_t unit = streamed_unit(piece);
    if (unit == kNoUnit) continue;
    Passing& passing = passing_[unit];
    if (piece.in_place) continue;
    passing.packed.push_back({piece.tensor, piece.first_row, piece.rows, filled[unit]});
    filled[unit] += round_up(copied_row_bytes(plan.tensor(piece.tensor)) * piece.rows, kAlignment);
    sizes[units_[unit].slot] = std::max(sizes[units_[unit].slot], filled[unit]);
  }
  for (uint32_t s = 0; s < kSlots; ++s)
    slots_.push_back(sizes[s] == 0 ? Buffer{} : device_.create_buffer(message("slot ", s), sizes[s]));
  for (const auto& [unit, passing] : passing_) {
    for (const Passing::Packed& packed : passing.packed) {
      place({.tensor = packed.tensor, .first_row = packed.first_row, .rows = packed.rows, .unit = unit},
            {.buffer = slots_[units_[unit].slot].get(),
             .offset = packed.offset,
             .row_bytes = copied_row_bytes(plan.tensor(packed.tensor))});
    }
  }
}

bool Weights::streams() const {
  return std::any_of(units_.begin(), units_.end(), [](const Unit& unit) { return unit.streams(); });
}

uint64_t Weights::device_bytes() const {
  uint64_t bytes = 0;
  for (const std::vector<Buffer>* buffers : {&copied_, &slots_}) {
    for (const Buffer& buffer : *buffers) bytes += buffer.size;
  }
  return bytes;
}

}  // namespace rwkvnative::metal
