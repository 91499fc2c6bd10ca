// What is printed for the kernels that multiply several matrices in one dispatch (kernels/linear.wgsl, columns.wgsl,
// mix_linear.wgsl): which workgroup takes which rows of which matrix, and the function for each kind of matrix.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "webgpu/shader.h"

namespace rwkvnative::webgpu {

// `Part` of kernels/linear_part.wgsl, but for its first row, which depends on the workgroup.
struct PartFields {
  uint32_t kind, weights, rows, input, heads, out, out_heads, out_first, out_stride, activation;
};

class PartText {
 public:
  // arguments: of a kind's function, as the kernel has them.
  explicit PartText(std::string_view arguments) : arguments_(arguments) {}

  // `text` has the function run_k<number>.
  void add_kind(uint32_t number, const std::string& text);
  // Some rows of a matrix, `each` of them a workgroup.
  void add(const PartFields& part, uint32_t each);
  // One workgroup, behind all others, that has no matrix: it calls this. Its number is that of a further kind.
  void add_own(uint32_t number, std::string_view call);
  uint32_t workgroups() const { return workgroups_; }
  // Adds all of it, and the kernel, a file whose $KINDS are the calls.
  void put(ShaderText& text, std::string_view kernel) const;

 private:
  std::string arguments_, cases_, instances_, parts_, rest_ = "  return Part();\n";
  uint32_t workgroups_ = 0;
};

}  // namespace rwkvnative::webgpu
