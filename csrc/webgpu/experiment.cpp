#include "webgpu/experiment.h"

#include <cctype>

#include "core/error.h"
#include "core/pack.h"
#include "webgpu/compile.h"
#include "webgpu/shader.h"

namespace rwkvnative::webgpu {
namespace {

// decode_TYPE and its halves as loads alone: the same bytes of a unit, whatever their meaning, become its codes.
std::string plain_decoder(const DTypeTraits& type) {
  constexpr uint32_t kUnits = 1024;  // of a row long enough that its padding does not count
  const auto eighths = static_cast<uint32_t>(packed_row_bytes(type.type, kUnits * 32) * 8 / kUnits);  // of bytes, of a unit
  const uint32_t vectors = eighths / 128, rest = eighths % 128;
  const std::string name = lower(type.name);
  std::string text = message("fn load_", name, "(row: u32, unit: u32, units: u32) -> Packed {\n");
  text += vectors == 0 ? "  var low = vec4(0u);\n" : message("  var low = weights[row + ", vectors, "u * unit];\n");
  text += vectors < 2 ? "  let high = low;\n" : message("  let high = weights[row + ", vectors, "u * unit + 1u];\n");
  for (uint32_t word = 0; word * 32 < rest; ++word)
    text += message("  low.", "xyzw"[word], " ^= weight_word(4u * (row + ", vectors, "u * units) + unit * ", rest, "u / 32u + ",
                    word, "u);\n");
  return text + message("  return Packed(low, high, vec4(0u));\n}\n", "fn unpack_", name,
                        "(packed: Packed, row: u32, unit: u32, units: u32) -> Block {\n",
                        "  return Block(packed.codes, packed.more_codes, vec2(1.0), vec2(0.0));\n}\n", "fn decode_", name,
                        "(row: u32, unit: u32, units: u32) -> Block {\n  return unpack_", name, "(load_", name,
                        "(row, unit, units), row, unit, units);\n}\n");
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
    for (const DTypeTraits& type : dtype_table()) {
      const auto decoder = kernel_sources().find("decode_" + lower(type.name));
      if (decoder == kernel_sources().end()) continue;
      const size_t at = source.find(decoder->second);
      if (at != std::string::npos) source.replace(at, decoder->second.size(), plain_decoder(type));
    }
  } else if (experiment == Experiment::NoLoads) {
    source = without_loads(source) +
             "fn constant_weight(index: u32) -> vec4<u32> {\n"
             "  return (vec4(index) * vec4(2654435761u, 2246822519u, 3266489917u, 668265263u)) & vec4(0x2fff2fffu);\n}\n";
  }
  return source;
}

}  // namespace rwkvnative::webgpu
