#include "metal/options.h"

#include <dlfcn.h>

#include <bit>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string_view>

#include "core/chunk.h"
#include "core/error.h"

namespace rwkvnative::metal {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// A folder named by a variable; `otherwise` where that is not set.
std::string folder(const char* name, const std::string& otherwise) {
  return std::getenv(name) == nullptr ? otherwise : variable(name);
}

// As platformdirs has it, which places the tuner's choices.
std::string user_cache() {
#ifdef __APPLE__
  const std::string caches = variable("HOME").empty() ? "" : variable("HOME") + "/Library/Caches";
#else
  const std::string home = variable("HOME").empty() ? "" : variable("HOME") + "/.cache";
  const std::string caches = folder("XDG_CACHE_HOME", home);
#endif
  return caches.empty() ? "" : caches + "/rwkvnative/metal";
}

// Where the extension is.
std::string beside_extension(const char* name) {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&parse_tuning), &info) == 0 || info.dli_fname == nullptr) return {};
  return (std::filesystem::path(info.dli_fname).parent_path() / name).string();
}

template <class Visit>
void for_each_item(const std::string& list, Visit visit) {
  for (size_t begin = 0; begin < list.size();) {
    const size_t end = std::min(list.find_first_of(",;", begin), list.size());
    if (end != begin) visit(list.substr(begin, end - begin));
    begin = end + 1;
  }
}

}  // namespace

Tuning parse_tuning(const std::string& text) {
  Tuning t;
  struct Constant {
    uint32_t* value;
    uint32_t least, most;
    bool power_of_two;
  };
  const std::map<std::string_view, Constant> constants = {
      {"simdgroups", {&t.simdgroups, 1, 32, false}},
      {"lanes", {&t.lanes, 0, 32, true}},
      {"rows", {&t.rows, 0, 2, false}},
      {"threads", {&t.threads, 0, UINT32_MAX, false}},
      {"norm_simdgroups", {&t.norm_simdgroups, 1, 32, false}},
      {"chunk", {&t.chunk, 8, 128, true}},
      {"fuse", {&t.fuse, 1, 2, false}},
      {"lora_simdgroups", {&t.lora_simdgroups, 1, 32, false}},
      {"mix_simdgroups", {&t.mix_simdgroups, 1, 32, false}},
      {"mix_passes", {&t.mix_passes, 1, 16, false}},
      {"matmul_rows", {&t.matmul_rows, 1, UINT32_MAX, false}},
      {kPrefillRows, {&t.prefill_rows, 0, kMostPrefillRows, false}},
      {"in_flight", {&t.in_flight, 1, 64, false}},
      {"megaoperations", {&t.megaoperations, 0, UINT32_MAX, false}},
      {"half", {&t.half, 0, 1, false}},
  };
  for_each_item(text, [&](const std::string& item) {
    const size_t equals = item.find('=');
    const auto found = constants.find(std::string_view(item).substr(0, equals));
    if (equals == std::string::npos || found == constants.end()) {
      throw InputError(
          message("[metal] RWKVNATIVE_METAL_TUNING: expected name=number with a name of Tuning, got \"", item, "\""));
    }
    const Constant& constant = found->second;
    const char* begin = item.data() + equals + 1;
    const char* end = item.data() + item.size();
    uint32_t value = 0;
    const auto [read_to, error] = std::from_chars(begin, end, value);
    if (error != std::errc{} || read_to != end || value < constant.least || value > constant.most ||
        (constant.power_of_two && value != 0 && !std::has_single_bit(value))) {
      throw InputError(message("[metal] RWKVNATIVE_METAL_TUNING: ", found->first, ": expected ", constant.least, " to ",
                               constant.most, constant.power_of_two ? ", a power of two" : "", ", got \"", begin,
                               "\""));
    }
    *constant.value = value;
  });
  return t;
}

std::vector<std::string> tuning_variants() {
  std::vector<std::string> variants;
  for (uint32_t simdgroups : {1, 2, 4, 8})
    for (uint32_t lanes : {0, 8, 16, 32})
      if (simdgroups != 4 || lanes != 0) variants.push_back(message("simdgroups=", simdgroups, ",lanes=", lanes));
  for (uint32_t rows : {1, 2}) variants.push_back(message("rows=", rows));
  for (uint32_t threads : {0, 16384, 65536}) variants.push_back(message("threads=", threads));
  for (uint32_t simdgroups : {4, 16}) variants.push_back(message("norm_simdgroups=", simdgroups));
  for (uint32_t chunk : {16, 64}) variants.push_back(message("chunk=", chunk));
  for (uint32_t simdgroups : {4, 16}) variants.push_back(message("lora_simdgroups=", simdgroups));
  for (uint32_t simdgroups : {8, 16, 32})
    for (uint32_t passes : {1, 2, 4}) variants.push_back(message("fuse=2,mix_simdgroups=", simdgroups, ",mix_passes=", passes));
  for (const char* variant : {"half=1", "half=1,fuse=2"}) variants.push_back(variant);
  for (uint32_t rows : {5, 17}) variants.push_back(message("matmul_rows=", rows));
  return variants;
}

Options Options::from_environment() {
  Options options;
  const std::map<std::string_view, bool*> switches = {
      {"nocopy", &options.nocopy}, {"fuse", &options.fuse}, {"matmul", &options.matmul}};
  for_each_item(variable("RWKVNATIVE_METAL_DISABLE"), [&](const std::string& item) {
    const auto found = switches.find(item);
    if (found == switches.end())
      throw InputError(
          message("[metal] RWKVNATIVE_METAL_DISABLE: expected nocopy, fuse or matmul, got \"", item, "\""));
    *found->second = false;
  });
  const std::string trace = variable("RWKVNATIVE_METAL_TRACE");
  options.trace = !trace.empty() && trace != "0";
  options.archive = folder("RWKVNATIVE_METAL_ARCHIVE", user_cache());
  options.libraries = folder("RWKVNATIVE_METAL_LIBRARIES", beside_extension("metal_libraries"));
  options.tuning = parse_tuning(variable("RWKVNATIVE_METAL_TUNING"));
  return options;
}

}  // namespace rwkvnative::metal
