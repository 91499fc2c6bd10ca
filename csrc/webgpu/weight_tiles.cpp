#include "webgpu/weight_tiles.h"

#include <algorithm>
#include <bit>
#include <span>
#include <string>

#include "core/error.h"
#include "webgpu/compile.h"
#include "webgpu/matmat_tiles.h"
#include "webgpu/model.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kWorkgroup = 256;
constexpr uint32_t kMostOuts = 256;  // of a product's tile: a multiple of all

// A dispatch of kernels/tiles.wgsl: matrices of a group, one behind the other.
struct TilesWork {
  std::map<TensorId, TilePlace> places;
  uint64_t bytes = 0;
  std::string text;
  std::vector<uint32_t> table;
  uint32_t workgroups = 0;
};

// The matrices that an op multiplies with.
std::vector<TensorId> matrices_of(const Op& op) {
  std::vector<TensorId> matrices;
  if (const auto* linear = std::get_if<LinearOp>(&op)) {
    for (const LinearPart& part : linear->parts) matrices.push_back(part.weight);
  } else if (const auto* wkv7 = std::get_if<Wkv7Op>(&op)) {
    for (TensorId id : {wkv7->w2, wkv7->a2, wkv7->v2, wkv7->g2})
      if (id != kNone) matrices.push_back(id);
  } else if (const auto* head = std::get_if<HeadOp>(&op)) {
    matrices.push_back(head->weight);
  }
  return matrices;
}

TilePlace place_of(const Tensor& weight, uint64_t bytes) {
  return {static_cast<uint32_t>(bytes / 16), ceil_div(weight.ne0, 64) * 8};
}
uint32_t padded(uint32_t rows) { return ceil_div(rows, kMostOuts) * kMostOuts; }

bool has(std::span<const TensorId> matrices, TensorId id) {
  return std::find(matrices.begin(), matrices.end(), id) != matrices.end();
}

uint64_t tile_bytes(const Plan& plan, const WeightGroup& group, std::span<const TensorId> matrices) {
  uint64_t bytes = 0;
  for (const PlacedRows& rows : group.rows) {
    if (has(matrices, rows.tensor)) bytes += uint64_t{padded(rows.rows)} * place_of(plan.tensor(rows.tensor), 0).octets * 16;
  }
  return bytes;
}

std::string decoding_text(const LoadedParts& model, const std::vector<DType>& kinds, size_t parts) {
  const MatrixShape shape = matrix_shape_of(*model.device);
  ShaderText text;
  text.enable("f16").constant("kWorkgroup", kWorkgroup).constant("kParts", static_cast<uint32_t>(parts));
  include_weight_tiles(text, shape);
  text.file("weights").constant("kFetched", 4u).file("matmat_fetched").file("tiles");
  for (DType type : kinds) {
    const std::string name = lower(traits(type).name);
    text.file(is_float(type) ? "float_weights" : "decode_" + name);
    if (!is_float(type)) text.file("matmat_codes");
    text.text(instantiate(is_float(type) ? "matmat_float" : "matmat_quant", {{"TYPE", name}}));
    text.text(instantiate("tiles_type", {{"TYPE", name}}));
  }
  text.text(instantiate("tiles_kinds", {{"MAKE", by_kind(kinds, "make_", "(part, row, unit);")}}));
  return text.str();
}

TilesWork tiles_work(const LoadedParts& model, const WeightGroup& group, std::span<const TensorId> matrices) {
  TilesWork work;
  std::vector<DType> kinds;
  for (const PlacedRows& rows : group.rows) {
    if (!has(matrices, rows.tensor)) continue;
    const Tensor& weight = model.plan->tensor(rows.tensor);
    const TilePlace place = place_of(weight, work.bytes);
    work.places[rows.tensor] = place;
    const auto kind = static_cast<uint32_t>(std::find(kinds.begin(), kinds.end(), weight.type) - kinds.begin());
    if (kind == kinds.size()) kinds.push_back(weight.type);
    const uint32_t begin = work.workgroups, outs = padded(rows.rows);
    work.workgroups += ceil_div(outs * (place.octets / 4), kWorkgroup);
    const float scale = model.half_scale(rows.tensor);
    work.table.insert(work.table.end(), {work.workgroups, begin, kind, rows.at, rows.row_vec4s, row_units(weight), rows.rows, place.at,
                                         place.octets, outs, std::bit_cast<uint32_t>(scale), 0});
    work.bytes += uint64_t{outs} * place.octets * 16;
  }
  work.text = decoding_text(model, kinds, work.places.size());
  return work;
}

}  // namespace

std::shared_ptr<const WeightTiles> WeightTiles::make(const LoadedParts& model) {
  const Device& device = *model.device;
  const Plan& plan = *model.plan;
  uint64_t wanted = 0;
  for (size_t op = 0; op < plan.ops.size(); ++op) {
    const std::vector<TensorId> matrices = matrices_of(plan.ops[op]);
    for (const WeightGroup& group : model.weights->groups(op)) {
      const uint64_t bytes = tile_bytes(plan, group, matrices);
      if (bytes > device.max_binding()) return nullptr;
      wanted += bytes;
    }
  }
  const uint64_t total = std::min(device.info().memory_bytes, device.memory().pretended_total());
  if (wanted > (total - std::min(total, device.memory().used())) / 2) return nullptr;

  auto tiles = std::make_shared<WeightTiles>();
  struct Job {
    const Kernel* kernel;
    BindGroupHandle group;
    uint32_t workgroups;
  };
  std::vector<Job> jobs;
  std::vector<Buffer> tables;
  try {
    for (size_t op = 0; op < plan.ops.size(); ++op) {
      const std::vector<TensorId> matrices = matrices_of(plan.ops[op]);
      for (const WeightGroup& group : model.weights->groups(op)) {
        if (tile_bytes(plan, group, matrices) == 0) continue;
        const TilesWork work = tiles_work(model, group, matrices);
        for (const PlacedRows& rows : group.rows) {
          const auto place = work.places.find(rows.tensor);
          if (place != work.places.end()) tiles->kept_[{rows.tensor, rows.first_row}] = {tiles->buffers_.size(), place->second};
        }
        tiles->buffers_.push_back(device.create_buffer("weight tiles", work.bytes, WGPUBufferUsage_Storage));
        constexpr auto kUsage = WGPUBufferUsage_Storage | WGPUBufferUsage_CopyDst;
        tables.push_back(device.create_buffer("table of tiles", work.table.size() * sizeof(uint32_t), kUsage));
        device.write(tables.back().get(), 0, std::as_bytes(std::span(work.table)));
        const std::string text = work.text + layout_text(work.text, model.layout);
        const Pipelines::Range ranges[] = {
            {model.weights->buffer(group), group.offset, group.bytes}, {tiles->buffers_.back().get()}, {tables.back().get()}};
        jobs.push_back({&model.pipelines->request("tiles", text, Bindings::Main),
                        model.pipelines->bind("tiles", Bindings::Main, ranges), work.workgroups});
      }
    }
  } catch (const OutOfDeviceMemory&) {
    model.pipelines->finish();
    return nullptr;  // others hold what was free
  }
  model.pipelines->finish();
  EncoderHandle encoder = device.create_encoder("tiles");
  WGPUComputePassDescriptor descriptor{};
  {
    const PassHandle pass(dawn().CommandEncoderBeginComputePass(encoder.get(), &descriptor));
    for (const Job& job : jobs) {
      dawn().ComputePassEncoderSetPipeline(pass.get(), job.kernel->pipeline.get());
      dawn().ComputePassEncoderSetBindGroup(pass.get(), 0, job.group.get(), 0, nullptr);
      dawn().ComputePassEncoderDispatchWorkgroups(pass.get(), job.workgroups, 1, 1);
    }
    dawn().ComputePassEncoderEnd(pass.get());
  }
  device.submit(std::move(encoder));
  return tiles;
}

uint64_t WeightTiles::device_bytes() const {
  uint64_t bytes = 0;
  for (const Buffer& buffer : buffers_) bytes += buffer.size;
  return bytes;
}

std::shared_ptr<const WeightTiles> TileStore::kept(const LoadedParts& model) {
  const std::scoped_lock lock(mutex_);
  std::shared_ptr<const WeightTiles> kept = kept_.lock();
  if (kept == nullptr) kept_ = kept = WeightTiles::make(model);
  return kept;
}

uint64_t TileStore::kept_bytes() const {
  const std::scoped_lock lock(mutex_);
  const std::shared_ptr<const WeightTiles> kept = kept_.lock();
  return kept == nullptr ? 0 : kept->device_bytes();
}

}  // namespace rwkvnative::webgpu
