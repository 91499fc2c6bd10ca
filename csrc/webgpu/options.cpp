#include "webgpu/options.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdlib>
#include <map>
#include <string_view>

#include "core/error.h"

namespace rwkvnative::webgpu {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

template <class Number>
Number number(const char* name, std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) {
    throw InputError(message("[webgpu] ", name, ": expected a whole number, got \"", text, "\""));
  }
  return value;
}

template <class Visit>
void for_each_item(const std::string& list, Visit visit) {
  for (size_t begin = 0; begin < list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
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
  const std::map<std::string_view, Constant> constants = {{"workgroup", {&t.workgroup, 32, 1024, true}},
                                                          {"lanes", {&t.lanes, 0, 32, true}},
                                                          {"threads", {&t.threads, 0, UINT32_MAX, false}},
                                                          {"rows", {&t.rows, 1, 8, false}},
                                                          {"float_lanes", {&t.float_lanes, 0, 32, true}},
                                                          {"float_rows", {&t.float_rows, 1, 8, false}},
                                                          {"tile", {&t.tile, 0, 16, true}},
                                                          {"unroll", {&t.unroll, 1, 32, false}},
                                                          {"norm_workgroup", {&t.norm_workgroup, 32, 1024, true}},
                                                          {"norm_chunk", {&t.norm_chunk, 8, 128, true}},
                                                          {"wkv_groups", {&t.wkv_groups, 1, 16, true}},
                                                          {"wkv_values", {&t.wkv_values, 16, 64, true}},
                                                          {"wkv_tokens", {&t.wkv_tokens, 1, 64, false}},
                                                          {"in_flight", {&t.in_flight, 1, 64, false}},
                                                          {"fuse", {&t.fuse, 0, 1, false}},
                                                          {"matmat", {&t.matmat, 0, 4, false}},
                                                          {"matmat_rows", {&t.matmat_rows, 2, 4096, false}},
                                                          {"matmat_tile", {&t.matmat_tile, 0, 128, true}}};
  for_each_item(text, [&](const std::string& item) {
    const size_t equals = item.find('=');
    const auto found = constants.find(std::string_view(item).substr(0, equals));
    if (equals == std::string::npos || found == constants.end()) {
      throw InputError(
          message("[webgpu] RWKVNATIVE_WEBGPU_TUNING: expected name=number with a name of Tuning, got \"", item, "\""));
    }
    const Constant& constant = found->second;
    const auto value = number<uint32_t>("RWKVNATIVE_WEBGPU_TUNING", std::string_view(item).substr(equals + 1));
    if (value < constant.least || value > constant.most ||
        (constant.power_of_two && value != 0 && !std::has_single_bit(value))) {
      throw InputError(message("[webgpu] RWKVNATIVE_WEBGPU_TUNING: ", found->first, ": expected ", constant.least, " to ",
                               constant.most, constant.power_of_two ? ", a power of two" : "", ", got ", value));
    }
    *constant.value = value;
  });
  return t;
}

Options Options::from_environment() {
  Options options;
  const std::map<std::string_view, bool*> switches = {
      {"subgroups", &options.subgroups}, {"dot4", &options.dot4}, {"matrices", &options.matrices}, {"timestamps", &options.timestamps},
      {"host-pointer", &options.host_pointer}};
  for_each_item(variable("RWKVNATIVE_WEBGPU_DISABLE"), [&](const std::string& item) {
    const auto found = switches.find(item);
    if (found == switches.end()) {
      throw InputError(
          message("[webgpu] RWKVNATIVE_WEBGPU_DISABLE: expected subgroups, dot4, matrices, timestamps or host-pointer, got \"", item, "\""));
    }
    *found->second = false;
  });
  const std::string validation = variable("RWKVNATIVE_WEBGPU_VALIDATION");
  options.validation = !validation.empty() && validation != "0";
  const auto limit = [](const char* name, uint64_t& value) {
    if (const std::string text = variable(name); !text.empty()) value = number<uint64_t>(name, text);
  };
  limit("RWKVNATIVE_WEBGPU_MAX_BINDING", options.max_binding);
  limit("RWKVNATIVE_WEBGPU_MEMORY", options.memory);
  limit("RWKVNATIVE_WEBGPU_HOST_CACHE", options.host_cache);
  options.tuning = parse_tuning(variable("RWKVNATIVE_WEBGPU_TUNING"));
  return options;
}

}  // namespace rwkvnative::webgpu
