#include "webgpu/shader.h"

#include <cstdio>

namespace rwkvnative::webgpu {
namespace {

std::string_view source(std::string_view file) {
  const auto found = kernel_sources().find(file);
  if (found == kernel_sources().end()) throw DeviceError(message("[webgpu] there is no kernel file ", file));
  return found->second;
}

bool is_name(char c) { return (c >= 'A' && c <= 'Z') || c == '_'; }

}  // namespace

std::string instantiate(std::string_view file, const Substitutions& substitutions) {
  const std::string_view text = source(file);
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (text[at] != '$') {
      out += text[at++];
      continue;
    }
    size_t end = at + 1;
    while (end < text.size() && is_name(text[end])) ++end;
    const std::string_view name = text.substr(at + 1, end - at - 1);
    const std::pair<std::string_view, std::string>* found = nullptr;
    for (const auto& substitution : substitutions) {
      if (substitution.first == name) found = &substitution;
    }
    if (found == nullptr) throw DeviceError(message("[webgpu] kernel file ", file, ": nothing to put for $", name));
    out += found->second;
    at = end;
  }
  return out;
}

ShaderText& ShaderText::constant(std::string_view name, uint32_t value) {
  constants_ += message("const ", name, " = ", value, "u;\n");
  return *this;
}

ShaderText& ShaderText::constant(std::string_view name, bool value) {
  constants_ += message("const ", name, " = ", value ? "true" : "false", ";\n");
  return *this;
}

ShaderText& ShaderText::constant(std::string_view name, float value) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.9e", static_cast<double>(value));
  constants_ += message("const ", name, " = f32(", digits, ");\n");
  return *this;
}

ShaderText& ShaderText::file(std::string_view name) {
  if (included_.emplace(name, true).second) body_ += message(source(name), "\n");
  return *this;
}

ShaderText& ShaderText::text(std::string text) {
  body_ += text + "\n";
  return *this;
}

ShaderText& ShaderText::enable(std::string_view extension) {
  enables_ += message("enable ", extension, ";\n");
  return *this;
}

ShaderText& ShaderText::directive(std::string_view text) {
  directives_ += message(text, ";\n");
  return *this;
}

}  // namespace rwkvnative::webgpu
