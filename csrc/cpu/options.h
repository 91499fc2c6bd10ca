// What may be tuned on the CPU.
#pragma once

#include <cstdint>
#include <string>

namespace rwkvnative::cpu {

struct Tuning {
  uint32_t prefill_rows = 0;  // tokens of a chunk of a prompt; 0: chosen
};

// From "", or "prefill_rows=number"; throws InputError.
Tuning parse_tuning(const std::string& text);

}  // namespace rwkvnative::cpu
