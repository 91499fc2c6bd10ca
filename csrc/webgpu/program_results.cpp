// What a submit brings back.
#include <algorithm>
#include <bit>
#include <cstring>

#include "core/candidates.h"
#include "webgpu/program.h"

namespace rwkvnative::webgpu {
namespace {

// The logit that a key of kernels/candidates.wgsl stands for.
float key_logit(uint32_t key) { return std::bit_cast<float>((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key); }

}  // namespace

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
    for (int32_t& id : chosen_) id = std::max(id, 0);  // nothing to choose from: the caller stops here
    return result;
  }
  if (shape_.readout == Readout::Candidates) {
    const uint32_t k = std::min(shape_.candidates, model_->plan->n_vocab);
    flight.ids.resize(size_t{flight.sequences} * k);
    flight.values.resize(size_t{flight.sequences} * k);
    flight.candidates.resize(flight.sequences);
    for (uint32_t s = 0; s < flight.sequences; ++s) {
      CandidateList& list = flight.candidates[s];
      list.ids = std::span(flight.ids).subspan(size_t{s} * k, k);
      list.logits = std::span(flight.values).subspan(size_t{s} * k, k);
      if (compiled_.candidates_on_host) {
        host_candidates(
            flight, s,
            reinterpret_cast<const float*>(mapped) + uint64_t{s} * compiled_.activations[compiled_.logits_slot].padded, k);
        continue;
      }
      const auto* entries = reinterpret_cast<const uint32_t*>(mapped) + uint64_t{s} * compiled_.result_stride * 2;
      list.log_sum_exp = std::bit_cast<float>(entries[0]);
      for (uint32_t i = 0; i < k; ++i) {
        flight.values[size_t{s} * k + i] = key_logit(entries[2 * (1 + i)]);
        flight.ids[size_t{s} * k + i] = static_cast<int32_t>(entries[2 * (1 + i) + 1]);
      }
    }
    result.candidates = flight.candidates;
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

// For more candidates than the device sorts.
void DeviceProgram::host_candidates(Flight& flight, uint32_t sequence, const float* logits, uint32_t k) const {
  const std::span all(logits, model_->plan->n_vocab);
  const size_t at = size_t{sequence} * k;
  top_candidates(all, std::span(flight.ids).subspan(at, k), std::span(flight.values).subspan(at, k));
  flight.candidates[sequence].log_sum_exp = log_sum_exp(all);
}

}  // namespace rwkvnative::webgpu
