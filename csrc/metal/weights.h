// The weights of a plan where the GPU reads them: in the model file's own pages where the file's layout is good for
// 16-byte loads (floats, Q4_K, Q5_K), in packed buffers (core/pack.h) where it is not.
#pragma once

#include <functional>
#include <vector>

#include "core/plan.h"
#include "metal/device.h"

namespace rwkvnative::metal {

struct PlacedTensor {
  id<MTLBuffer> buffer = nil;  // of Weights
  uint64_t offset = 0;         // in bytes, a multiple of 16
  uint64_t row_bytes = 0;
};

class Weights {
 public:
  // Wraps and packs, telling `progress` bytes of the file. Throws DeviceError if the device has no room. The bytes that
  // the plan's tensors point to must outlive this.
  Weights(const Device& device, const Plan& plan, const std::function<void(uint64_t, uint64_t)>& progress);
  // Waits for work that may read the weights.
  ~Weights();

  const PlacedTensor& operator[](TensorId id) const { return tensors_.at(static_cast<size_t>(id)); }
  // Whether kernels read the file's pages.
  bool reads_file() const { return !wrapped_.empty(); }
  // Bytes allocated beside the file's pages.
  uint64_t device_bytes() const;

 private:
  void wrap(const Plan& plan);
  void copy(const Plan& plan, const std::function<void(uint64_t, uint64_t)>& progress);

  const Device& device_;
  std::vector<PlacedTensor> tensors_;
  std::vector<Buffer> wrapped_, copied_;
};

// Whether kernels read the type's rows as the file stores them.
bool reads_file_layout(DType type);
// Pieces of a row that a kernel's thread takes at once: 8 values of a float type, 32 of a quantized one.
uint32_t row_items(const Tensor& tensor);

}  // namespace rwkvnative::metal
