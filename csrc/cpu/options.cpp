#include "cpu/options.h"

#include <charconv>
#include <cstdlib>
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
    throw InputError(message("[cpu] RWKVNATIVE_CPU_TUNING: expected ", kPrefillRows, "=number, got \"", text, "\""));
  const std::string_view number = all.substr(equals + 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), tuning.prefill_rows);
  if (error != std::errc{} || end != number.data() + number.size() || tuning.prefill_rows > kMostPrefillRows)
    throw InputError(message("[cpu] RWKVNATIVE_CPU_TUNING: ", kPrefillRows, ": expected 0 to ", kMostPrefillRows, ", got \"",
                             number, "\""));
  return tuning;
}

Tuning environment_tuning() {
  const char* text = std::getenv("RWKVNATIVE_CPU_TUNING");
  return parse_tuning(text == nullptr ? "" : text);
}

}  // namespace rwkvnative::cpu
