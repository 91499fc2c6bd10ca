// How Python hands over a model file's tensors; the one place that checks them against the file's bytes.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <tuple>
#include <vector>

#include "core/architecture.h"
#include "core/error.h"

namespace rwkvnative {

// A model file's tensors: (name, ggml_type, shape_ne, offset, n_bytes), offsets into `data`.
using TensorTuple = std::tuple<std::string, uint32_t, std::vector<uint64_t>, uint64_t, uint64_t>;

inline std::vector<TensorSource> tensor_sources(const std::vector<TensorTuple>& tensors, const pybind11::buffer_info& data) {
  const auto* bytes = static_cast<const std::byte*>(data.ptr);
  const auto size = static_cast<uint64_t>(data.size * data.itemsize);
  std::vector<TensorSource> sources;
  for (const auto& [name, type, shape, offset, n_bytes] : tensors) {
    if (offset > size || n_bytes > size - offset)
      throw InputError(message("tensor ", name, ": expected bytes ", offset, " to ", offset + n_bytes, " in the file, got a file of ",
                               size, " bytes"));
    sources.push_back({name, type, shape, bytes + offset, n_bytes});
  }
  return sources;
}

}  // namespace rwkvnative
