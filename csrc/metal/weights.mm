#include "metal/weights.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "core/error.h"
#include "core/pack.h"

namespace rwkvnative::metal {
namespace {

constexpr uint64_t kAlignment = 16;          // of what kernels load at once
constexpr uint64_t kCopyBytes = 1ull << 30;  // of one packed buffer, unless a single tensor is larger
constexpr uint64_t kMaxGap = 1 << 20;        // bytes between two tensors that one wrapped buffer may hold uselessly
constexpr uint64_t kProgressBytes = 16 << 20;

uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
uintptr_t address(const std::byte* data) { return reinterpret_cast<uintptr_t>(data); }

bool is_float(DType type) { return traits(type).block_values == 1; }

// Bytes of a row in a buffer of our own. Quantized types that are read as the file stores them are only moved.
uint64_t copied_row_bytes(const Tensor& tensor) {
  if (reads_file_layout(tensor.type) && !is_float(tensor.type)) return tensor.row_bytes;
  return packed_row_bytes(tensor.type, tensor.ne0);
}

void copy_rows(const Tensor& tensor, uint64_t first_row, uint64_t rows, std::byte* out) {
  const std::byte* in = tensor.data + first_row * tensor.row_bytes;
  if (reads_file_layout(tensor.type) && !is_float(tensor.type)) {
    std::memcpy(out, in, rows * tensor.row_bytes);
  } else {
    pack_rows(tensor.type, tensor.ne0, in, tensor.row_bytes, rows, out);
  }
}

// On several threads.
void copy_parallel(const Tensor& tensor, uint64_t first_row, uint64_t rows, std::byte* out) {
  const uint64_t row_bytes = copied_row_bytes(tensor);
  const uint64_t n_threads =
      std::clamp<uint64_t>(rows * row_bytes >> 20, 1, std::clamp(std::thread::hardware_concurrency(), 1u, 8u));
  const uint64_t share = (rows + n_threads - 1) / n_threads;
  const auto work = [&](uint64_t begin) {
    const uint64_t end = std::min(rows, begin + share);
    if (begin < end) copy_rows(tensor, first_row + begin, end - begin, out + begin * row_bytes);
  };
  std::vector<std::thread> threads;
  for (uint64_t t = 1; t < n_threads; ++t) threads.emplace_back(work, t * share);
  work(0);
  for (std::thread& thread : threads) thread.join();
}

bool can_wrap(const Tensor& tensor) {
  if (!reads_file_layout(tensor.type) || address(tensor.data) % kAlignment != 0) return false;
  // Kernels read whole items; the end of the last row must be one.
  return tensor.row_bytes % kAlignment == 0 && (!is_float(tensor.type) || tensor.ne0 % 8 == 0);
}

}  // namespace

bool reads_file_layout(DType type) { return is_float(type) || type == DType::Q4_K || type == DType::Q5_K; }

uint32_t row_items(const Tensor& tensor) { return is_float(tensor.type) ? (tensor.ne0 + 7) / 8 : tensor.ne0 / 32; }

Weights::Weights(const Device& device, const Plan& plan, const std::function<void(uint64_t, uint64_t)>& progress)
    : device_(device), tensors_(plan.tensors.size()) {
  if (device.options().nocopy) wrap(plan);
  copy(plan, progress);
}

Weights::~Weights() { device_.finish_all(); }

void Weights::wrap(const Plan& plan) {
  std::vector<size_t> order;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    if (can_wrap(plan.tensors[i])) order.push_back(i);
  }
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return plan.tensors[a].data < plan.tensors[b].data; });
  const uint64_t most = device_.max_buffer() / kPage * kPage;
  for (size_t first = 0; first < order.size();) {
    const uintptr_t begin = address(plan.tensors[order[first]].data) / kPage * kPage;
    uint64_t bytes = 0;
    size_t last = first;
    for (; last < order.size(); ++last) {
      const Tensor& tensor = plan.tensors[order[last]];
      const uint64_t end = round_up(address(tensor.data) + tensor.bytes() - begin, kPage);
      if (end > most || (bytes != 0 && address(tensor.data) - begin > bytes + kMaxGap)) break;
      bytes = std::max(bytes, end);
    }
    if (last == first) {  // larger than a buffer can be; copy() says so
      ++first;
      continue;
    }
    Buffer buffer =
        device_.wrap(plan.tensors[order[first]].name + " ...", reinterpret_cast<const std::byte*>(begin), bytes);
    for (size_t i = first; buffer && i < last; ++i) {
      const Tensor& tensor = plan.tensors[order[i]];
      tensors_[order[i]] = {buffer.get(), address(tensor.data) - begin, tensor.row_bytes};
    }
    if (buffer) wrapped_.push_back(std::move(buffer));
    first = last;
  }
}

void Weights::copy(const Plan& plan, const std::function<void(uint64_t, uint64_t)>& progress) {
  // Places first: how large each buffer is.
  struct Place {
    size_t tensor, buffer;
    uint64_t offset;
  };
  std::vector<Place> places;
  std::vector<uint64_t> sizes;
  const uint64_t total = plan.weight_bytes();
  uint64_t done = total;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    if (tensors_[i].buffer != nil) continue;
    const uint64_t bytes = copied_row_bytes(plan.tensors[i]) * plan.tensors[i].ne1;
    if (bytes > device_.max_buffer()) {
      throw DeviceError(message("[metal] ", device_.info().name, ": ", plan.tensors[i].name, " needs a buffer of ",
                                bytes, " bytes, the device allows ", device_.max_buffer()));
    }
    if (sizes.empty() || sizes.back() + bytes > std::min(std::max(kCopyBytes, bytes), device_.max_buffer()))
      sizes.push_back(0);
    places.push_back({i, sizes.size() - 1, sizes.back()});
    sizes.back() = round_up(sizes.back() + bytes, kAlignment);
    done -= plan.tensors[i].bytes();
  }
  for (size_t i = 0; i < sizes.size(); ++i) copied_.push_back(device_.create_buffer(message("weights ", i), sizes[i]));
  if (progress) progress(done, total);
  for (const Place& place : places) {
    const Tensor& tensor = plan.tensors[place.tensor];
    const uint64_t row_bytes = copied_row_bytes(tensor);
    const Buffer& buffer = copied_[place.buffer];
    const uint64_t at_once = std::max<uint64_t>(1, kProgressBytes / row_bytes);
    for (uint64_t row = 0; row < tensor.ne1; row += at_once) {
      const uint64_t rows = std::min<uint64_t>(at_once, tensor.ne1 - row);
      copy_parallel(tensor, row, rows, buffer.contents() + place.offset + row * row_bytes);
      done += rows * tensor.row_bytes;
      if (progress) progress(done, total);
    }
    tensors_[place.tensor] = {buffer.get(), place.offset, row_bytes};
  }
}

uint64_t Weights::device_bytes() const {
  uint64_t bytes = 0;
  for (const Buffer& buffer : copied_) bytes += buffer.size;
  return bytes;
}

}  // namespace rwkvnative::metal
