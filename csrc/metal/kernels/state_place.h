// Where a sequence's part of the recurrent state lies.
#pragma once

#include "common.h"

inline device const float* state_in_at(device const float* states, constant StatePlace& place, device const SequenceInfo& info) {
  return states + u64(info.in_place) * place.stride + place.offset + u64(info.in_side) * place.side_stride;
}

inline device float* state_out_at(device float* states, constant StatePlace& place, device const SequenceInfo& info) {
  return states + u64(info.out_place) * place.stride + place.offset + u64(info.out_side) * place.side_stride;
}

inline bool is_fresh(device const SequenceInfo& info) { return info.in_place == STATE_FRESH; }
