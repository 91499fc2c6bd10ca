#include "webgpu/options.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdlib>
#include <map>
#include <string_view>

#include "core/chunk.h"
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
void for_each_item(const std::string& list, char separator, Visit visit) {
  for (size_t begin = 0; begin < list.size();) {
    const size_t end = std::min(list.find(separator, begin), list.size());
    if (end != begin) visit(list.substr(begin, end - begin));
    begin = end + 1;
  }
}

}  // namespace

namespace {

struct Constant {
  uint32_t Tuning::* value;
  uint32_t least, most;
  bool power_of_two;
  bool of_kinds;  // whether kinds of dispatches may differ in it
};

const std::map<std::string_view, Constant>& constants() {
  static const std::map<std::string_view, Constant> all = {
      {"workgroup", {&Tuning::workgroup, 32, 1024, true, true}},
      {"quantizing_workgroup", {&Tuning::quantizing_workgroup, 32, 1024, true, true}},
      {"subgroups", {&Tuning::subgroups, 0, 1, false, true}},
      {"lanes", {&Tuning::lanes, 0, 64, true, true}},
      {"threads", {&Tuning::threads, 0, UINT32_MAX, false, true}},
      {"wide_threads", {&Tuning::wide_threads, 0, UINT32_MAX, false, true}},
      {"rows", {&Tuning::rows, 1, 8, false, true}},
      {"float_lanes", {&Tuning::float_lanes, 0, 64, true, true}},
      {"float_rows", {&Tuning::float_rows, 1, 8, false, true}},
      {"tile", {&Tuning::tile, 0, 16, true, false}},
      {"unroll", {&Tuning::unroll, 1, 32, false, true}},
      {"column_rows", {&Tuning::column_rows, 0, 4, true, true}},
      {"column_slices", {&Tuning::column_slices, 0, 8, true, true}},
      {"column_workgroup", {&Tuning::column_workgroup, 0, 1024, true, true}},
      {"column_stage", {&Tuning::column_stage, 0, 2, false, true}},
      {"norm_workgroup", {&Tuning::norm_workgroup, 32, 1024, true, true}},
      {"norm_chunk", {&Tuning::norm_chunk, 8, 128, true, true}},
      {"wkv_groups", {&Tuning::wkv_groups, 1, 16, true, true}},
      {"wkv_halves", {&Tuning::wkv_halves, 0, 1, false, false}},
      {"wkv_values", {&Tuning::wkv_values, 16, 64, true, true}},
      {"wkv_lanes", {&Tuning::wkv_lanes, 1, 16, true, true}},
      {"wkv_step_groups", {&Tuning::wkv_step_groups, 0, 16, true, true}},
      {"wkv_tokens", {&Tuning::wkv_tokens, 1, 64, false, true}},
      {"short_rows", {&Tuning::short_rows, 0, 4096, false, false}},
      {"in_flight", {&Tuning::in_flight, 1, 64, false, false}},
      {"submit_us", {&Tuning::submit_us, 1, UINT32_MAX, false, false}},
      {kPrefillRows, {&Tuning::prefill_rows, 0, kMostPrefillRows, false, false}},
      {"carry_threads", {&Tuning::carry_threads, 512, 16384, true, false}},
      {"carry_products", {&Tuning::carry_products, 0, 100, false, false}},
      {"carry_spare", {&Tuning::carry_spare, 0, 10000, false, false}},
      {"mix_lanes", {&Tuning::mix_lanes, 1, 32, true, true}},
      {"mix_rows", {&Tuning::mix_rows, 1, 8, false, true}},
      {"mix_float_rows", {&Tuning::mix_float_rows, 1, 8, false, true}},
      {"mix_registers", {&Tuning::mix_registers, 0, 256, false, true}},
      {"mix_ahead", {&Tuning::mix_ahead, 0, 1, false, false}},
      {"fuse", {&Tuning::fuse, 0, 1, false, false}},
      {"layout", {&Tuning::layout, 0, 256, true, false}},
      {"matmat", {&Tuning::matmat, 0, 4, false, false}},
      {"matmat_rows", {&Tuning::matmat_rows, 2, 4096, false, false}},
      {"matmat_tile", {&Tuning::matmat_tile, 0, 128, true, false}},
      {"matmat_ahead", {&Tuning::matmat_ahead, 0, 1, false, false}},
      {"matmat_weights", {&Tuning::matmat_weights, 0, 2, false, false}},
      {"matmat_outs", {&Tuning::matmat_outs, 0, 256, true, false}},
      {"matmat_along", {&Tuning::matmat_along, 0, 8, true, false}},
      {"matmat_loads", {&Tuning::matmat_loads, 1, 4, true, false}},
      {"matmat_slices", {&Tuning::matmat_slices, 0, 2, false, false}},
      {"matmat_table", {&Tuning::matmat_table, 0, 2, false, false}},
      {"matmat_puts", {&Tuning::matmat_puts, 0, 1, false, false}},
      {"matmat_threads", {&Tuning::matmat_threads, 32, UINT32_MAX, false, false}}};
  return all;
}

std::pair<std::string_view, uint32_t> name_and_value(const std::string& item) {
  const size_t equals = item.find('=');
  if (equals == std::string::npos)
    throw InputError(
        message("[webgpu] RWKVNATIVE_WEBGPU_TUNING: expected name=number with a name of Tuning, got \"", item, "\""));
  return {std::string_view(item).substr(0, equals),
          number<uint32_t>("RWKVNATIVE_WEBGPU_TUNING", std::string_view(item).substr(equals + 1))};
}

void set_constant(Tuning& tuning, const std::string& item, bool of_kind) {
  const auto [name, value] = name_and_value(item);
  const auto found = constants().find(name);
  if (found == constants().end() || (of_kind && !found->second.of_kinds)) {
    throw InputError(message("[webgpu] RWKVNATIVE_WEBGPU_TUNING: expected name=number with a name of Tuning",
                             of_kind ? " that kinds of dispatches may differ in" : "", ", got \"", item, "\""));
  }
  const Constant& constant = found->second;
  if (value < constant.least || value > constant.most ||
      (constant.power_of_two && value != 0 && !std::has_single_bit(value))) {
    throw InputError(message("[webgpu] RWKVNATIVE_WEBGPU_TUNING: ", found->first, ": expected ", constant.least, " to ",
                             constant.most, constant.power_of_two ? ", a power of two" : "", ", got ", value));
  }
  tuning.*constant.value = value;
}

// The constants of a whole model that are not in Tuning.
bool set_whole(Tuned& tuned, const std::string& item) {
  const auto [name, value] = name_and_value(item);
  if (name == "int8" && value <= 1) {
    tuned.int8 = value == 1;
  } else if (name == "experiment" && value <= 2) {
    tuned.experiment = static_cast<Experiment>(value);
  } else {
    return false;
  }
  return true;
}

}  // namespace

const Tuning& Tuned::of(bool one_row, const std::string& label) const {
  const auto found = kinds.find((one_row ? "decode/" : "many/") + label);
  return found == kinds.end() ? all : found->second;
}

Tuned parse_tuning(const std::string& text) {
  Tuned tuned;
  for (const bool of_kinds : {false, true}) {  // what holds for all comes first, wherever it stands
    for_each_item(text, ';', [&](const std::string& part) {
      const size_t colon = part.rfind(':');
      if ((colon != std::string::npos) != of_kinds) return;
      Tuning* tuning = &tuned.all;
      if (of_kinds) tuning = &tuned.kinds.emplace(part.substr(0, colon), tuned.all).first->second;
      for_each_item(of_kinds ? part.substr(colon + 1) : part, ',', [&](const std::string& item) {
        if (of_kinds || !set_whole(tuned, item)) set_constant(*tuning, item, of_kinds);
      });
    });
  }
  return tuned;
}

std::vector<std::string> tuning_variants(bool matrices) {
  std::vector<std::string> variants;
  for (uint32_t workgroup : {32, 64, 128, 256, 512})
    for (uint32_t lanes : {0, 8, 16, 32})
      if (workgroup != 256 || lanes != 0)
        variants.push_back(message("workgroup=", workgroup, ",quantizing_workgroup=", workgroup, ",lanes=", lanes,
                                   ",float_lanes=", lanes));
  for (uint32_t rows : {2, 4}) variants.push_back(message("rows=", rows, ",float_rows=", rows));
  for (uint32_t threads : {0, 32768, 131072}) variants.push_back(message("threads=", threads));
  variants.emplace_back("wide_threads=0");
  for (uint32_t unroll : {2, 4, 8}) variants.push_back(message("unroll=", unroll));
  variants.emplace_back("subgroups=0");
  variants.emplace_back("quantizing_workgroup=256");
  for (uint32_t workgroup : {64, 128, 512}) variants.push_back(message("norm_workgroup=", workgroup));
  for (uint32_t chunk : {8, 16, 64}) variants.push_back(message("norm_chunk=", chunk));
  for (uint32_t lanes : {4, 16}) variants.push_back(message("wkv_lanes=", lanes));
  for (uint32_t values : {16, 64}) variants.push_back(message("wkv_values=", values));
  for (uint32_t rows : {1, 2, 4}) variants.push_back(message("column_rows=", rows));
  for (uint32_t slices : {1, 2, 4}) variants.push_back(message("column_slices=", slices));
  for (uint32_t workgroup : {128, 512}) variants.push_back(message("column_workgroup=", workgroup));
  for (uint32_t stage : {1, 2}) variants.push_back(message("column_stage=", stage));
  for (uint32_t groups : {4, 8, 16}) variants.push_back(message("wkv_step_groups=", groups));
  for (uint32_t lanes : {8, 32}) variants.push_back(message("mix_lanes=", lanes));
  for (uint32_t rows : {1, 4}) variants.push_back(message("mix_rows=", rows));
  for (uint32_t registers : {0, 48}) variants.push_back(message("mix_registers=", registers));
  for (uint32_t layout : {0, 8}) variants.push_back(message("layout=", layout));
  for (uint32_t threads : {8448, 16896, 67584}) variants.push_back(message("matmat_threads=", threads));
  variants.emplace_back("matmat_ahead=0");
  for (uint32_t weights = 1; matrices && weights <= 2; ++weights) variants.push_back(message("matmat_weights=", weights));
  variants.emplace_back("int8=0");
  variants.emplace_back("fuse=0");
  return variants;
}

bool null_adapter_wanted() { return variable("RWKVNATIVE_WEBGPU_NULL") == "1"; }

Options Options::from_environment() {
  Options options;
  const std::map<std::string_view, bool*> switches = {
      {"subgroups", &options.subgroups}, {"dot4", &options.dot4}, {"f16", &options.half}, {"matrices", &options.matrices},
      {"timestamps", &options.timestamps}, {"host-pointer", &options.host_pointer}, {"carry", &options.carry}, {"limits", &options.limits}};
  for_each_item(variable("RWKVNATIVE_WEBGPU_DISABLE"), ',', [&](const std::string& item) {
    const auto found = switches.find(item);
    if (found == switches.end()) {
      throw InputError(
          message("[webgpu] RWKVNATIVE_WEBGPU_DISABLE: expected subgroups, dot4, f16, matrices, timestamps, host-pointer, carry or limits, ",
                  "got \"", item, "\""));
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
  for_each_item(variable("RWKVNATIVE_WEBGPU_FAIL"), ',', [&](const std::string& item) {
    if (item.rfind("lost=", 0) == 0) {
      options.lost_at_submit = number<uint64_t>("RWKVNATIVE_WEBGPU_FAIL", std::string_view(item).substr(5));
    } else if (const size_t slash = item.find('/'); item.rfind("memory=", 0) == 0 && slash != std::string::npos) {
      options.refused_from = number<uint64_t>("RWKVNATIVE_WEBGPU_FAIL", std::string_view(item).substr(7, slash - 7));
      options.refused_every = number<uint64_t>("RWKVNATIVE_WEBGPU_FAIL", std::string_view(item).substr(slash + 1));
      if (options.refused_every < 3) throw InputError("[webgpu] RWKVNATIVE_WEBGPU_FAIL: memory=N/EVERY: expected at least 3 for EVERY");
    } else if (item.rfind("kernel=", 0) == 0) {
      options.broken_kernel = item.substr(7);
    } else {
      throw InputError(message("[webgpu] RWKVNATIVE_WEBGPU_FAIL: expected lost=N, memory=N/EVERY or kernel=TEXT, got \"", item, "\""));
    }
  });
  options.tuned = parse_tuning(variable("RWKVNATIVE_WEBGPU_TUNING"));
  return options;
}

}  // namespace rwkvnative::webgpu
