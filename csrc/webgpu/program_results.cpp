// What a submit brings back.
#include <algorithm>
#include <cstring>

#include "webgpu/program.h"

namespace rwkvnative::webgpu {

uint64_t DeviceProgram::result_bytes(uint32_t sequences, uint32_t head_rows) const {
  const Activations& act = compiled_.activations;
  switch (shape_.readout) {
    case Readout::None:
      return 0;
    case Readout::LastLogits:
    case Readout::AllLogits:
      return uint64_t{head_rows} * act[compiled_.logits_slot].padded * sizeof(float);
    case Readout::Hidden:
      return uint64_t{head_rows} * act[compiled_.hidden_slot].padded * sizeof(float);
    case Readout::Candidates:
      if (compiled_.candidates_on_host) return uint64_t{head_rows} * act[compiled_.logits_slot].padded * sizeof(float);
      return uint64_t{sequences} * compiled_.result_stride * 8;
    case Readout::Argmax:
    case Readout::Draw:
      return uint64_t{sequences} * sizeof(uint32_t);
  }
  return 0;
}

std::pair<WGPUBuffer, uint64_t> DeviceProgram::result_source() const {
  const Activations& act = compiled_.activations;
  if (chooses()) return {compiled_.tokens.get(), 0};
  if (shape_.readout == Readout::Candidates && !compiled_.candidates_on_host) return {compiled_.entries.get(), 0};
  const size_t slot = shape_.readout == Readout::Hidden ? compiled_.hidden_slot : compiled_.logits_slot;
  return {act.buffer().get(), uint64_t{16} * act[slot].values};
}

Result DeviceProgram::unpack(Flight& flight, const std::byte* mapped) {
  Result result;
  if (chooses()) {
    flight.ids.resize(flight.sequences);
    std::memcpy(flight.ids.data(), mapped, flight.sequences * sizeof(int32_t));
    result.tokens = flight.ids;
    if (compiled_.table_rows) chosen_ = flight.ids;
    for (int32_t& id : chosen_) id = std::max(id, 0);  // past a choice of none it does not matter
    return result;
  }
  if (shape_.readout == Readout::Candidates) {
    const uint32_t k = std::min(shape_.candidates, model_->plan->n_vocab);
    flight.candidates.reset(flight.sequences, k);
    for (uint32_t s = 0; s < flight.sequences; ++s) {
      if (compiled_.candidates_on_host) {  // more than the device sorts
        const uint64_t at = uint64_t{s} * compiled_.activations[compiled_.logits_slot].padded;
        flight.candidates.from_logits(s, {reinterpret_cast<const float*>(mapped) + at, model_->plan->n_vocab});
      } else {
        const uint64_t at = uint64_t{s} * compiled_.result_stride * 2;
        flight.candidates.from_device(s, reinterpret_cast<const uint32_t*>(mapped) + at);
      }
    }
    result.candidates = flight.candidates.lists();
    return result;
  }
  const SlotPlace& slot =
      compiled_.activations[shape_.readout == Readout::Hidden ? compiled_.hidden_slot : compiled_.logits_slot];
  flight.values.resize(size_t{flight.head_rows} * slot.width);
  for (uint32_t row = 0; row < flight.head_rows; ++row) {
    std::memcpy(flight.values.data() + size_t{row} * slot.width, mapped + size_t{row} * slot.padded * sizeof(float),
                slot.width * sizeof(float));
  }
  result.values = flight.values;
  return result;
}

}  // namespace rwkvnative::webgpu
