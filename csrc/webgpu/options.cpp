#include "webgpu/options.h"

#include <charconv>
#include <cstdlib>
#include <map>
#include <sstream>
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
  std::istringstream items(list);
  for (std::string item; std::getline(items, item, ',');) {
    if (!item.empty()) visit(item);
  }
}

}  // namespace

Tuning parse_tuning(const std::string& text) {
  Tuning t;
  const std::map<std::string_view, uint32_t*> constants = {
      {"workgroup", &t.workgroup},   {"lanes", &t.lanes},           {"rows", &t.rows},
      {"float_lanes", &t.float_lanes}, {"float_rows", &t.float_rows}, {"tile", &t.tile},
      {"norm_workgroup", &t.norm_workgroup}, {"wkv_groups", &t.wkv_groups},
      {"in_flight", &t.in_flight}};
  for_each_item(text, [&](const std::string& item) {
    const size_t equals = item.find('=');
    const auto found = constants.find(std::string_view(item).substr(0, equals));
    if (equals == std::string::npos || found == constants.end()) {
      throw InputError(message("[webgpu] RWKVNATIVE_WEBGPU_TUNING: expected name=number with a name of Tuning, got \"", item, "\""));
    }
    *found->second = number<uint32_t>("RWKVNATIVE_WEBGPU_TUNING", std::string_view(item).substr(equals + 1));
  });
  return t;
}

Options Options::from_environment() {
  Options options;
  const std::map<std::string_view, bool*> switches = {{"subgroups", &options.subgroups},
                                                      {"dot4", &options.dot4},
                                                      {"timestamps", &options.timestamps},
                                                      {"host-pointer", &options.host_pointer}};
  for_each_item(variable("RWKVNATIVE_WEBGPU_DISABLE"), [&](const std::string& item) {
    const auto found = switches.find(item);
    if (found == switches.end()) {
      throw InputError(message("[webgpu] RWKVNATIVE_WEBGPU_DISABLE: expected subgroups, dot4, timestamps or host-pointer, got \"", item, "\""));
    }
    *found->second = false;
  });
  const std::string validation = variable("RWKVNATIVE_WEBGPU_VALIDATION");
  options.validation = !validation.empty() && validation != "0";
  if (const std::string limit = variable("RWKVNATIVE_WEBGPU_MAX_BINDING"); !limit.empty()) {
    options.max_binding = number<uint64_t>("RWKVNATIVE_WEBGPU_MAX_BINDING", limit);
  }
  options.tuning = parse_tuning(variable("RWKVNATIVE_WEBGPU_TUNING"));
  return options;
}

}  // namespace rwkvnative::webgpu
