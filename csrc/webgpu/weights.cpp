#include "webgpu/weights.h"

#include <algorithm>
#include <numeric>
#include <thread>

#include "core/error.h"
#include "core/pack.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint64_t kAlignment = 256;           // of a binding; the largest that WebGPU allows a device to ask for
constexpr uint64_t kBufferBytes = 1ull << 30;  // of one buffer of weights, unless a single group is larger
constexpr uint64_t kStagingBytes = 16 << 20;
constexpr size_t kStagingBuffers = 3;

// The tensors of an op that must share one binding, and those that may be split by rows.
struct OpTensors {
  std::vector<TensorId> together, matrices;
};

struct CollectTensors {
  OpTensors operator()(const EmbedOp& op) const { return {{op.norm_weight, op.norm_bias}, {op.table}}; }
  OpTensors operator()(const ShiftMixOp& op) const { return {{op.norm_weight, op.norm_bias, op.lerp}, {}}; }
  OpTensors operator()(const LinearOp& op) const {
    OpTensors tensors;
    for (const LinearPart& part : op.parts) tensors.matrices.push_back(part.weight);
    return tensors;
  }
  OpTensors operator()(const Wkv7Op& op) const {
    OpTensors tensors;
    for (TensorId id :
         {op.w2, op.a2, op.v2, op.g2, op.w0, op.a0, op.v0, op.k_k, op.k_a, op.r_k, op.norm_weight, op.norm_bias}) {
      if (id != kNone) tensors.together.push_back(id);
    }
    return tensors;
  }
  OpTensors operator()(const HeadOp& op) const { return {{op.norm_weight, op.norm_bias}, {op.weight}}; }
};

uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

void append(WeightGroup& group, const Tensor& tensor, TensorId id, uint32_t first_row, uint32_t rows) {
  const uint64_t row_bytes = packed_row_bytes(tensor.type, tensor.ne0);
  group.rows.push_back(
      {id, first_row, rows, static_cast<uint32_t>(group.bytes / 16), static_cast<uint32_t>(row_bytes / 16)});
  group.bytes += row_bytes * rows;
}

// Packs rows on several threads.
void pack_parallel(const Tensor& tensor, uint64_t first_row, uint64_t rows, std::byte* out) {
  const uint64_t row_bytes = packed_row_bytes(tensor.type, tensor.ne0);
  const uint64_t n_threads =
      std::clamp<uint64_t>(rows * row_bytes >> 20, 1, std::clamp(std::thread::hardware_concurrency(), 1u, 8u));
  const uint64_t share = (rows + n_threads - 1) / n_threads;
  const auto work = [&](uint64_t begin) {
    const uint64_t end = std::min(rows, begin + share);
    if (begin < end) {
      pack_rows(tensor.type, tensor.ne0, tensor.data + (first_row + begin) * tensor.row_bytes, tensor.row_bytes,
                end - begin, out + begin * row_bytes);
    }
  };
  std::vector<std::thread> threads;
  for (uint64_t t = 1; t < n_threads; ++t) threads.emplace_back(work, t * share);
  work(0);
  for (std::thread& thread : threads) thread.join();
}

// A ring of mapped buffers through which weights go to the device.
class Staging {
 public:
  explicit Staging(const Device& device) : device_(device), slots_(kStagingBuffers) {}

  // Memory of at least `bytes` for the next copy().
  std::byte* next(uint64_t bytes) {
    Slot& slot = slots_[index_];
    if (!slot.buffer || slot.buffer.size < bytes) {
      slot = {device_.create_buffer("staging", std::max(bytes, kStagingBytes),
                                    WGPUBufferUsage_MapWrite | WGPUBufferUsage_CopySrc, true),
              {},
              false};
    } else if (slot.pending) {
      device_.wait(slot.mapped);
      slot.pending = false;
    }
    auto* memory = static_cast<std::byte*>(dawn().BufferGetMappedRange(slot.buffer.get(), 0, slot.buffer.size));
    if (memory == nullptr)
      throw DeviceError(message("[webgpu] ", device_.info().name, ": staging memory cannot be mapped"));
    return memory;
  }

  void copy(WGPUBuffer target, uint64_t offset, uint64_t bytes) {
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

 private:
  struct Slot {
    Buffer buffer;
    WGPUFuture mapped{};
    bool pending = false;
  };
  const Device& device_;
  std::vector<Slot> slots_;
  size_t index_ = 0;
};

}  // namespace

const PlacedRows& placed(const WeightGroup& group, TensorId tensor) {
  for (const PlacedRows& rows : group.rows) {
    if (rows.tensor == tensor) return rows;
  }
  throw DeviceError(message("[webgpu] tensor ", tensor, " is not in its group"));
}

Weights::Weights(const Device& device, const Plan& plan, const std::function<void(uint64_t, uint64_t)>& progress)
    : device_(device) {
  place(plan);
  const uint64_t needed = std::accumulate(buffer_bytes_.begin(), buffer_bytes_.end(), uint64_t{0});
  if (const uint64_t has = device.info().memory_bytes; has != 0 && needed > has) {
    throw DeviceError(message("[webgpu] ", device.info().name, ": the model's weights need ", needed >> 20,
                              " MiB of device memory, the device has ", has >> 20, " MiB; take a smaller model or type"));
  }
  for (size_t i = 0; i < buffer_bytes_.size(); ++i) {
    buffers_.push_back(
        device.create_buffer(message("weights ", i), buffer_bytes_[i], WGPUBufferUsage_Storage | WGPUBufferUsage_CopyDst));
  }
  upload(plan, progress);
}

void Weights::place_in_buffer(WeightGroup& group) {
  group.bytes = std::max<uint64_t>(round_up(group.bytes, 16), 16);
  uint64_t offset = buffer_bytes_.empty() ? 0 : round_up(buffer_bytes_.back(), kAlignment);
  const uint64_t buffer_limit = std::min(std::max(kBufferBytes, group.bytes), device_.limits().maxBufferSize);
  if (buffer_bytes_.empty() || offset + group.bytes > buffer_limit) {
    buffer_bytes_.push_back(0);
    offset = 0;
  }
  group.buffer = static_cast<uint32_t>(buffer_bytes_.size() - 1);
  group.offset = offset;
  buffer_bytes_.back() = offset + group.bytes;
}

void Weights::place(const Plan& plan) {
  const uint64_t limit = device_.max_binding();
  merged_.resize(plan.ops.size());
  for (size_t i = 0; i < plan.ops.size(); ++i) {
    const Op& op = plan.ops[i];
    if (i + 2 < plan.ops.size() && std::holds_alternative<ShiftMixOp>(op) &&
        std::holds_alternative<LinearOp>(plan.ops[i + 1]) && std::holds_alternative<Wkv7Op>(plan.ops[i + 2])) {
      WeightGroup group;
      for (size_t j = i; j < i + 3; ++j) {
        const OpTensors tensors = std::visit(CollectTensors{}, plan.ops[j]);
        for (const auto* ids : {&tensors.together, &tensors.matrices}) {
          for (TensorId id : *ids) append(group, plan.tensor(id), id, 0, plan.tensor(id).ne1);
        }
      }
      if (group.bytes <= limit) {
        place_in_buffer(group);
        merged_[i] = true;
        ops_.insert(ops_.end(), 3, {group});
        i += 2;
        continue;
      }
    }
    const OpTensors tensors = std::visit(CollectTensors{}, op);
    std::vector<WeightGroup> groups;
    if (!tensors.together.empty()) {
      WeightGroup group;
      for (TensorId id : tensors.together) append(group, plan.tensor(id), id, 0, plan.tensor(id).ne1);
      if (group.bytes > limit) {
        throw DeviceError(message("[webgpu] ", device_.info().name, ": ", plan.tensor(tensors.together.front()).name,
                                  " and its companions need a binding of ", group.bytes, " bytes, the device allows ",
                                  limit));
      }
      groups.push_back(std::move(group));
    }
    bool open = false;  // whether the last group takes more matrices
    for (TensorId id : tensors.matrices) {
      const Tensor& tensor = plan.tensor(id);
      const uint64_t row_bytes = packed_row_bytes(tensor.type, tensor.ne0);
      for (uint32_t row = 0; row < tensor.ne1;) {
        const uint64_t wanted = tensor.ne1 - row;
        uint64_t room = open ? (limit - groups.back().bytes) / row_bytes : 0;
        if (room < wanted) {  // rather a new group than a split
          groups.emplace_back();
          open = true;
          room = limit / row_bytes;
        }
        // Pieces start at multiples of 32 rows, the block of a quantized output.
        const uint32_t rows = static_cast<uint32_t>(room < wanted ? room / 32 * 32 : wanted);
        if (rows == 0) {
          throw DeviceError(message("[webgpu] ", device_.info().name, ": ", tensor.name, ": 32 rows of ", row_bytes,
                                    " bytes do not fit a binding of ", limit, " bytes"));
        }
        append(groups.back(), tensor, id, row, rows);
        row += rows;
      }
    }
    for (WeightGroup& group : groups) place_in_buffer(group);
    ops_.push_back(std::move(groups));
  }
}

void Weights::upload(const Plan& plan, const std::function<void(uint64_t, uint64_t)>& progress) {
  std::vector<const WeightGroup*> each;
  for (size_t op = 0; op < ops_.size(); ++op) {
    for (const WeightGroup& group : ops_[op]) each.push_back(&group);
    if (merged_[op]) op += 2;
  }
  uint64_t total = 0, done = 0;
  for (const WeightGroup* group : each) {
    for (const PlacedRows& rows : group->rows) total += rows.rows * plan.tensor(rows.tensor).row_bytes;
  }
  Staging staging(device_);
  for (const WeightGroup* one : each) {
    {
      const WeightGroup& group = *one;
      // A chunk is a run of the group's bytes: many small vectors, or some rows of a matrix.
      uint64_t chunk_at = 0, chunk_bytes = 0;
      std::byte* memory = nullptr;
      const auto flush = [&] {
        if (chunk_bytes != 0) staging.copy(buffers_[group.buffer].get(), group.offset + chunk_at, chunk_bytes);
        chunk_at += chunk_bytes;
        chunk_bytes = 0;
        memory = nullptr;
        if (progress) progress(done, total);
      };
      for (const PlacedRows& placed_rows : group.rows) {
        const Tensor& tensor = plan.tensor(placed_rows.tensor);
        const uint64_t row_bytes = uint64_t{placed_rows.row_vec4s} * 16;
        for (uint64_t row = 0; row < placed_rows.rows;) {
          if (chunk_bytes + row_bytes > kStagingBytes) flush();
          if (memory == nullptr) memory = staging.next(std::max(row_bytes, std::min(kStagingBytes, group.bytes)));
          const uint64_t fit = std::max<uint64_t>(1, (kStagingBytes - chunk_bytes) / row_bytes);
          const uint64_t rows = std::min(fit, placed_rows.rows - row);
          pack_parallel(tensor, placed_rows.first_row + row, rows, memory + chunk_bytes);
          chunk_bytes += rows * row_bytes;
          done += rows * tensor.row_bytes;
          row += rows;
        }
      }
      flush();
    }
  }
  device_.wait_idle();
}

uint64_t Weights::device_bytes() const {
  uint64_t bytes = 0;
  for (const Buffer& buffer : buffers_) bytes += buffer.size;
  return bytes;
}

}  // namespace rwkvnative::webgpu
