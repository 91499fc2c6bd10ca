// From the contents of a model file to a Plan. One architecture is one file in core/arch/ and one row in architecture.cpp.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/plan.h"

namespace rwkvnative {

// A tensor as the file declares it. `shape` in GGML order: shape[0] is contiguous.
struct TensorSource {
  std::string name;
  uint32_t ggml_type = 0;
  std::vector<uint64_t> shape;
  const std::byte* data = nullptr;
  uint64_t bytes = 0;
};

// What a file says of a model: hyper-parameters by their short names (n_layer, n_embd, ...) and tensors by name.
class ModelSource {
 public:
  ModelSource(std::string architecture, std::map<std::string, double> config, std::span<const TensorSource> tensors);

  const std::string& architecture() const { return architecture_; }
  // A positive whole number.
  uint32_t size(std::string_view key) const;
  float real(std::string_view key) const;

  // The tensor `name`, whose shape must be {ne0, ne1} (leading ones and trailing ones of the file's shape do not count).
  // Throws InputError if it is missing, misshapen, of an unknown type or shorter than its shape says.
  Tensor matrix(const std::string& name, uint32_t ne0, uint32_t ne1) const;
  // The same for a vector, which must be F32.
  Tensor vector(const std::string& name, uint32_t n) const;
  // The same for several vectors [n_rows][n] in one F32 tensor.
  Tensor vectors(const std::string& name, uint32_t n, uint32_t n_rows) const;

 private:
  const TensorSource& find(const std::string& name) const;
  std::string architecture_;
  std::map<std::string, double, std::less<>> config_;
  std::map<std::string, TensorSource, std::less<>> tensors_;
};

// The names of the architectures that build_plan() takes.
std::vector<std::string> architectures();

// Validates everything the Plan will use. The tensors' bytes must outlive the Plan.
Plan build_plan(const ModelSource& source);

// core/arch/
Plan build_rwkv7(const ModelSource& source);

}  // namespace rwkvnative
