#include "webgpu/experiment.h"

#include <cctype>
#include <utility>

#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

// unpack_TYPE without its work: what was loaded of a unit, whatever its meaning, becomes its codes.
std::string without_decoding(std::string source, const std::string& type) {
  const size_t begin = source.find(message("fn unpack_", type, "("));
  if (begin == std::string::npos) return source;
  const size_t end = source.find("\n}\n", begin);
  if (end == std::string::npos) throw DeviceError(message("[webgpu] decode_", type, ".wgsl: no end of unpack_", type));
  source.replace(begin, end + 3 - begin,
                 message("fn unpack_", type, "(packed: Packed, row: u32, unit: u32, units: u32) -> Block {\n",
                         "  return Block(packed.codes ^ packed.words, packed.more_codes, vec2(1.0), vec2(0.0));\n}\n"));
  return source;
}

// Every weights[...] as a number made of its index; as float16 or float32 it is less than one.
std::string without_loads(const std::string& source) {
  constexpr std::string_view kLoad = "weights[";
  std::string out;
  for (size_t at = 0; at < source.size();) {
    const size_t load = source.find(kLoad, at);
    const bool whole_word = load == 0 || load == std::string::npos ||
                            !(std::isalnum(static_cast<unsigned char>(source[load - 1])) || source[load - 1] == '_' ||
                              source[load - 1] == '.');
    if (load == std::string::npos) return out + source.substr(at);
    if (!whole_word) {
      out += source.substr(at, load + kLoad.size() - at);
      at = load + kLoad.size();
      continue;
    }
    size_t end = load + kLoad.size();
    for (int depth = 1; end < source.size(); ++end) {
      depth += source[end] == '[' ? 1 : source[end] == ']' ? -1 : 0;
      if (depth == 0) break;
    }
    out += source.substr(at, load - at);
    out += message("constant_weight(", without_loads(source.substr(load + kLoad.size(), end - load - kLoad.size())), ")");
    at = end + 1;
  }
  return out;
}

}  // namespace

std::string changed_for(Experiment experiment, std::string source) {
  if (experiment == Experiment::PlainLoads) {
    for (const DTypeTraits& type : dtype_table())  // floats have next to nothing to decode
      if (type.block_values > 1) source = without_decoding(std::move(source), lower(type.name));
  } else if (experiment == Experiment::NoLoads) {
    source = without_loads(source) +
             "fn constant_weight(index: u32) -> vec4<u32> {\n"
             "  return (vec4(index) * vec4(2654435761u, 2246822519u, 3266489917u, 668265263u)) & vec4(0x2fff2fffu);\n}\n";
  }
  return source;
}

}  // namespace rwkvnative::webgpu
