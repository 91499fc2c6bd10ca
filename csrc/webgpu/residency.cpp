#include "webgpu/residency.h"

namespace rwkvnative::webgpu {

uint64_t program_bytes(const Plan& plan, uint64_t rows, uint64_t logits_rows) {
  const auto padded = [](uint64_t width) { return (width + 31) / 32 * 32; };
  uint64_t values = 10 * padded(plan.n_embd);  // hidden, the LoRAs' outputs, matrix products' scratch
  for (const Slot& slot : plan.slots) values += padded(slot.width);
  const uint64_t padded_rows = (rows + 7) / 8 * 8;
  // float32, float16, int8 and a head of 16 bytes per 32; then logits, once more to be read back
  const uint64_t activations = padded_rows * values * 15 / 2;
  const uint64_t logits = logits_rows * padded(plan.n_vocab) * 8;
  const uint64_t choice = uint64_t{plan.n_vocab} * 40;  // bias, the lists of a top-k
  return activations + logits + choice + (64 << 10);
}

}  // namespace rwkvnative::webgpu
