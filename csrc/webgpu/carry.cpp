#include "webgpu/carry.h"

#include <algorithm>

#include "core/error.h"
#include "webgpu/shader.h"

namespace rwkvnative::webgpu {
namespace {

size_t find(const std::string& source, std::string_view text, size_t from) {
  const size_t at = source.find(text, from);
  if (at == std::string::npos) throw DeviceError(message("[webgpu] a kernel to carry weights has no ", text));
  return at;
}

// What an argument of @workgroup_size comes to: a number, or the name of one of the text's constants.
uint32_t count_threads(const std::string& source, const std::string& argument) {
  if (argument.find_first_not_of("0123456789") == std::string::npos) return static_cast<uint32_t>(std::stoul(argument));
  const std::string constant = message("const ", argument, " = ");
  return static_cast<uint32_t>(std::stoul(source.substr(find(source, std::string_view(constant), 0) + constant.size(), 10)));
}

}  // namespace

uint32_t carrying_layers(uint64_t workgroups, uint32_t carriers) {
  return static_cast<uint32_t>((carriers + workgroups - 1) / std::max<uint64_t>(1, workgroups));
}

CarryingText carrying(std::string source, uint32_t group) {
  constexpr std::string_view kSize = "@workgroup_size(", kMain = "fn main(", kIndex = "@builtin(local_invocation_index) ";
  const size_t size = find(source, kSize, 0) + kSize.size();
  const std::string threads = source.substr(size, find(source, ")", size) - size);
  const size_t entry = find(source, kMain, size) + kMain.size(), body = find(source, ") {", entry);
  const std::string inputs = source.substr(entry, body - entry);
  // The carriers' workgroups are more of the grid along z.
  for (const std::string_view own : {"workgroup.z", "workgroup_id.z", "num_workgroups"})
    if (source.find(own) != std::string::npos) throw DeviceError(message("[webgpu] a kernel to carry weights has a use for ", own));
  find(inputs, "@builtin(workgroup_id) workgroup:", 0);

  std::string more = "@builtin(num_workgroups) carrying_grid: vec3<u32>, ", thread = "carrying_thread";
  if (const size_t index = inputs.find(kIndex); index != std::string::npos) {
    const size_t name = index + kIndex.size();
    thread = inputs.substr(name, inputs.find(':', name) - name);
  } else {
    more += message(kIndex, thread, ": u32, ");
  }
  source.insert(body + 3, message("\n  if (workgroup.z + 1u < carrying_grid.z) {\n    carry(workgroup, carrying_grid, ", thread,
                                  ");\n    return;\n  }"));
  source.insert(entry, more);
  const uint32_t count = count_threads(source, threads);
  source += instantiate("carry", {{"GROUP", message(group)}, {"THREADS", message(count, "u")}});
  return {std::move(source), count};
}

}  // namespace rwkvnative::webgpu
