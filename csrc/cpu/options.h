// What may be tuned on the CPU.
//
//   RWKVNATIVE_CPU_TUNING  prefill_rows=NUMBER, see Tuning; read once when the device is opened
#pragma once

#include <cstdint>
#include <string>

namespace rwkvnative::cpu {

struct Tuning {
  uint32_t prefill_rows = 0;  // tokens of a chunk of a prompt; 0: chosen
};

// From "", or "prefill_rows=number"; throws InputError.
Tuning parse_tuning(const std::string& text);
// What the environment says.
Tuning environment_tuning();

}  // namespace rwkvnative::cpu
