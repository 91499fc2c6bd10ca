// Matrices as float16 tiles in device memory (kernels/weight_tiles.wgsl), for products of many rows that load them as they are:
// Tuning::matmat_weights. They take up to four times what packed weights do, so only a model that is all on a device with room to
// spare has them.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "webgpu/pipelines.h"
#include "webgpu/weights.h"

namespace rwkvnative::webgpu {

struct LoadedParts;

// Where some rows of a matrix are: the vec4 of their first tile, and a row's octets.
struct TilePlace {
  uint32_t at = 0, octets = 0;
};

// All matrices of a model, made by one submit.
class WeightTiles {
 public:
  // Null where the tiles would take more than half of the memory that is free, or more than a binding has.
  static std::shared_ptr<const WeightTiles> make(const LoadedParts& model);

  struct Kept {
    size_t buffer = 0;
    TilePlace place;
  };
  // Of the rows of a matrix that begin with `first_row`.
  const Kept& kept(TensorId matrix, uint32_t first_row) const { return kept_.at({matrix, first_row}); }
  WGPUBuffer buffer(const Kept& kept) const { return buffers_[kept.buffer].get(); }
  uint64_t device_bytes() const;

 private:
  std::map<std::pair<TensorId, uint32_t>, Kept> kept_;
  std::vector<Buffer> buffers_;
};

// What the programs of a model share, as long as any of them has it. Thread-safe.
class TileStore {
 public:
  std::shared_ptr<const WeightTiles> kept(const LoadedParts& model);
  uint64_t kept_bytes() const;

 private:
  mutable std::mutex mutex_;
  std::weak_ptr<const WeightTiles> kept_;
};

}  // namespace rwkvnative::webgpu
