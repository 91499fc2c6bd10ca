#include "webgpu/staging.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/pack.h"
#include "core/parallel.h"

namespace rwkvnative::webgpu {
namespace {

constexpr size_t kStagingBuffers = 3;

void pack_parallel(const Tensor& tensor, uint64_t first_row, uint64_t rows, uint32_t abreast, std::byte* out) {
  const uint64_t row_bytes = packed_row_bytes(tensor.type, tensor.ne0);
  in_parallel(rows, rows * row_bytes, [&](uint64_t begin, uint64_t end) {
    if (begin == end) return;
    const std::byte* in = tensor.data + (first_row + begin) * tensor.row_bytes;
    if (abreast == 1) {
      pack_rows(tensor.type, tensor.ne0, in, tensor.row_bytes, end - begin, out + begin * row_bytes);
    } else {
      pack_rows_abreast(tensor.type, tensor.ne0, in, tensor.row_bytes, begin, end - begin, abreast, out);
    }
  });
}

}  // namespace

void pack_group(const Plan& plan, const WeightGroup& group, std::byte* out) {
  for (const PlacedRows& rows : group.rows)
    pack_parallel(plan.tensor(rows.tensor), rows.first_row, rows.rows, rows.abreast, out + uint64_t{16} * rows.at);
}

void copy_parallel(const std::byte* in, uint64_t bytes, std::byte* out) {
  in_parallel(bytes, bytes, [&](uint64_t begin, uint64_t end) { std::memcpy(out + begin, in + begin, end - begin); });
}

Staging::Staging(const Device& device, uint64_t piece_bytes)
    : device_(device), piece_bytes_(piece_bytes), slots_(kStagingBuffers) {}

void Staging::reserve(uint64_t row_bytes) {
  for (Slot& slot : slots_) make(slot, row_bytes);
}

void Staging::make(Slot& slot, uint64_t bytes) {
  slot.buffer = {};
  slot = {device_.create_buffer("staging", std::max(bytes, piece_bytes_), WGPUBufferUsage_MapWrite | WGPUBufferUsage_CopySrc, true),
          {},
          false};
}

std::byte* Staging::next(uint64_t bytes) {
  Slot& slot = slots_[index_];
  if (!slot.buffer || slot.buffer.size < bytes) {
    make(slot, bytes);
  } else if (slot.pending) {
    device_.wait(slot.mapped);
    slot.pending = false;
  }
  auto* memory = static_cast<std::byte*>(dawn().BufferGetMappedRange(slot.buffer.get(), 0, slot.buffer.size));
  if (memory == nullptr) throw DeviceError(message("[webgpu] ", device_.info().name, ": staging memory cannot be mapped"));
  return memory;
}

void Staging::copy(WGPUBuffer target, uint64_t offset, uint64_t bytes) {
  Slot& slot = slots_[index_];
  dawn().BufferUnmap(slot.buffer.get());
  EncoderHandle encoder = device_.create_encoder("upload");
  dawn().CommandEncoderCopyBufferToBuffer(encoder.get(), slot.buffer.get(), 0, target, offset, bytes);
  device_.submit(std::move(encoder));
  WGPUBufferMapCallbackInfo callback{};
  callback.mode = WGPUCallbackMode_WaitAnyOnly;
  callback.callback = [](WGPUMapAsyncStatus, WGPUStringView, void*, void*) {};
  slot.mapped = dawn().BufferMapAsync(slot.buffer.get(), WGPUMapMode_Write, 0, slot.buffer.size, callback);
  slot.pending = true;
  index_ = (index_ + 1) % slots_.size();
}

// A piece is a run of the group's bytes: many small vectors, or some rows of a matrix. Rows that lie side by side are put together
// in host memory first, all of them.
void Staging::upload(const Plan& plan, const WeightGroup& group, WGPUBuffer target, uint64_t offset,
                     const std::function<void(uint64_t)>& packed) {
  uint64_t piece_at = 0, piece_bytes = 0, file_bytes = 0;
  std::byte* memory = nullptr;
  const auto flush = [&] {
    if (piece_bytes != 0) copy(target, offset + piece_at, piece_bytes);
    piece_at += piece_bytes;
    piece_bytes = 0;
    memory = nullptr;
    if (packed) packed(file_bytes);
    file_bytes = 0;
  };
  for (const PlacedRows& placed_rows : group.rows) {
    const Tensor& tensor = plan.tensor(placed_rows.tensor);
    const uint64_t row_bytes = uint64_t{placed_rows.row_vec4s} * 16;
    if (placed_rows.abreast != 1) {
      flush();
      std::vector<std::byte> whole(row_bytes * placed_rows.rows);
      pack_parallel(tensor, placed_rows.first_row, placed_rows.rows, placed_rows.abreast, whole.data());
      upload(whole, target, offset + piece_at);
      piece_at += whole.size();
      file_bytes = placed_rows.rows * tensor.row_bytes;
      flush();
      continue;
    }
    for (uint64_t row = 0; row < placed_rows.rows;) {
      if (piece_bytes + row_bytes > piece_bytes_) flush();
      if (memory == nullptr) memory = next(std::max(row_bytes, std::min(piece_bytes_, group.bytes)));
      const uint64_t fit = std::max<uint64_t>(1, (piece_bytes_ - piece_bytes) / row_bytes);
      const uint64_t rows = std::min(fit, placed_rows.rows - row);
      pack_parallel(tensor, placed_rows.first_row + row, rows, 1, memory + piece_bytes);
      piece_bytes += rows * row_bytes;
      file_bytes += rows * tensor.row_bytes;
      row += rows;
    }
  }
  flush();
}

void Staging::upload(std::span<const std::byte> bytes, WGPUBuffer target, uint64_t offset) {
  while (!bytes.empty()) {
    const std::span<const std::byte> piece = bytes.first(std::min<uint64_t>(bytes.size(), piece_bytes_));
    copy_parallel(piece.data(), piece.size(), next(piece.size()));
    copy(target, offset, piece.size());
    offset += piece.size();
    bytes = bytes.subspan(piece.size());
  }
}

}  // namespace rwkvnative::webgpu
