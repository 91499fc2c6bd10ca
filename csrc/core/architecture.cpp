#include "core/architecture.h"

#include <cmath>

#include "core/error.h"

namespace rwkvnative {
namespace {

struct Architecture {
  std::string_view name;
  Plan (*build)(const ModelSource&);
};

constexpr Architecture kArchitectures[] = {
    {"rwkv7", build_rwkv7},
};

std::string shape_text(std::span<const uint64_t> shape) {
  std::string text = "{";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "}";
}

}  // namespace

ModelSource::ModelSource(std::string architecture, std::map<std::string, double> config,
                         std::span<const TensorSource> tensors)
    : architecture_(std::move(architecture)), config_(config.begin(), config.end()) {
  for (const TensorSource& tensor : tensors) {
    if (!tensors_.emplace(tensor.name, tensor).second)
      throw InputError(message("tensor ", tensor.name, " is in the file twice"));
  }
}

uint32_t ModelSource::size(std::string_view key) const {
  const auto found = config_.find(key);
  if (found == config_.end()) throw InputError(message("hyper-parameter ", key, " is missing"));
  const double value = found->second;
  if (!(value >= 1 && value <= 0x7fffffff) || value != std::floor(value))
    throw InputError(message("hyper-parameter ", key, ": expected a whole number from 1 to 2147483647, got ", value));
  return static_cast<uint32_t>(value);
}

float ModelSource::real(std::string_view key) const {
  const auto found = config_.find(key);
  if (found == config_.end()) throw InputError(message("hyper-parameter ", key, " is missing"));
  if (!std::isfinite(found->second))
    throw InputError(message("hyper-parameter ", key, ": expected a finite number, got ", found->second));
  return static_cast<float>(found->second);
}

const TensorSource& ModelSource::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw InputError(message("tensor ", name, " is missing"));
  return found->second;
}

Tensor ModelSource::matrix(const std::string& name, uint32_t ne0, uint32_t ne1) const {
  const TensorSource& source = find(name);
  const DTypeTraits* type = find_dtype(source.ggml_type);
  if (!type)
    throw InputError(message("tensor ", name, ": quantization type ", source.ggml_type, " is not supported"));

  // A vector may be stored as {n}, {n, 1} or {1, 1, n}; a matrix as {ne0, ne1} or {ne0, 1, ne1}.
  std::vector<uint64_t> shape;
  for (uint64_t dim : source.shape)
    if (dim != 1) shape.push_back(dim);
  std::vector<uint64_t> expected;
  for (uint64_t dim : {ne0, ne1})
    if (dim != 1) expected.push_back(dim);
  if (shape != expected)
    throw InputError(message("tensor ", name, ": expected shape ", shape_text(std::vector<uint64_t>{ne0, ne1}),
                             ", got ", shape_text(source.shape)));
  if (ne0 % type->block_values != 0)
    throw InputError(message("tensor ", name, ": rows of ", ne0, " values are not a whole number of ", type->name,
                             " blocks of ", type->block_values));

  const Tensor tensor{name, type->type, ne0, ne1, source.data, type->bytes(ne0)};
  if (source.bytes < tensor.bytes())
    throw InputError(message("tensor ", name, ": expected ", tensor.bytes(), " bytes, got ", source.bytes));
  return tensor;
}

Tensor ModelSource::vector(const std::string& name, uint32_t n) const { return vectors(name, n, 1); }

Tensor ModelSource::vectors(const std::string& name, uint32_t n, uint32_t n_rows) const {
  const Tensor tensor = matrix(name, n, n_rows);
  if (tensor.type != DType::F32)
    throw InputError(message("tensor ", name, ": expected type F32, got ", traits(tensor.type).name));
  if (reinterpret_cast<uintptr_t>(tensor.data) % alignof(float) != 0)
    throw InputError(message("tensor ", name, ": its data is not aligned to 4 bytes"));
  return tensor;
}

std::vector<std::string> architectures() {
  std::vector<std::string> names;
  for (const Architecture& architecture : kArchitectures) names.emplace_back(architecture.name);
  return names;
}

Plan build_plan(const ModelSource& source) {
  for (const Architecture& architecture : kArchitectures)
    if (architecture.name == source.architecture()) return architecture.build(source);
  throw InputError(message("architecture ", source.architecture(), " is not supported"));
}

}  // namespace rwkvnative
