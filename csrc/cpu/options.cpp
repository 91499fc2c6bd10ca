#include "cpu/options.h"

#include <charconv>
#include <string_view>

#include "core/chunk.h"
#include "core/error.h"

namespace rwkvnative::cpu {

Tuning parse_tuning(const std::string& text) {
  Tuning tuning;
  if (text.empty()) return tuning;
  const std::string_view all(text);
  const size_t equals = all.find('=');
  if (equals == std::string_view::npos || all.substr(0, equals) != kPrefillRows)
    throw InputError(message("[cpu] tuning: expected ", kPrefillRows, "=number, got \"", text, "\""));
  const std::string_view number = all.substr(equals + 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), tuning.prefill_rows);
  if (error != std::errc{} || end != number.data() + number.size() || tuning.prefill_rows > kMostPrefillRows)
    throw InputError(message("[cpu] tuning: ", kPrefillRows, ": expected 0 to ", kMostPrefillRows, ", got \"", number, "\""));
  return tuning;
}

}  // namespace rwkvnative::cpu
