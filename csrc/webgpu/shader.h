// WGSL programs are put together from the files in kernels/: constants, the snippets that a kernel needs, the kernel.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"

namespace rwkvnative::webgpu {

// The files of kernels/ by their names without .wgsl (generated: cmake/embed_kernels.py).
const std::map<std::string_view, std::string_view>& kernel_sources();

using Substitutions = std::vector<std::pair<std::string_view, std::string>>;

// A kernel file with each $NAME replaced.
std::string instantiate(std::string_view file, const Substitutions& substitutions);

// Collects the text of one shader module.
class ShaderText {
 public:
  ShaderText& constant(std::string_view name, uint32_t value);
  ShaderText& constant(std::string_view name, bool value);
  ShaderText& constant(std::string_view name, float value);
  ShaderText& file(std::string_view name);  // each file once
  ShaderText& text(std::string text);
  // "enable ...;", before everything else, and other directives, after those.
  ShaderText& enable(std::string_view extension);
  ShaderText& directive(std::string_view text);

  std::string str() const { return enables_ + directives_ + constants_ + body_; }

 private:
  std::string enables_, directives_, constants_, body_;
  std::map<std::string, bool, std::less<>> included_;
};

}  // namespace rwkvnative::webgpu
