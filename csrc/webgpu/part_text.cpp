#include "webgpu/part_text.h"

#include "core/error.h"

namespace rwkvnative::webgpu {

void PartText::add_kind(uint32_t number, const std::string& text) {
  instances_ += text;
  cases_ += message("case ", number, "u: { run_k", number, arguments_, "; }\n    ");
}

void PartText::add(const PartFields& p, uint32_t each) {
  const uint32_t first_workgroup = workgroups_;
  workgroups_ += (p.rows + each - 1) / each;
  parts_ += message("  if (workgroup < ", workgroups_, "u) { return Part(", p.kind, "u, ", p.weights, "u, ", p.rows,
                    "u, (workgroup - ", first_workgroup, "u) * ", each, "u, ", p.input, "u, ", p.heads, "u, ", p.out, "u, ",
                    p.out_heads, "u, ", p.out_first, "u, ", p.out_stride, "u, ", p.activation, "u); }\n");
}

void PartText::add_own(uint32_t number, std::string_view call) {
  cases_ += message("case ", number, "u: { ", call, " }\n    ");
  rest_ = message("  var rest = Part();\n  rest.kind = ", number, "u;\n  return rest;\n");
  ++workgroups_;
}

void PartText::put(ShaderText& text, std::string_view kernel) const {
  text.text(message("fn part_of(workgroup: u32) -> Part {\n", parts_, rest_, "}"));
  text.text(instances_).text(instantiate(kernel, {{"KINDS", cases_}}));
}

}  // namespace rwkvnative::webgpu
