// What measuring a device and a model on it gives, the same for every backend: how fast the device can be at best, and the
// time, bytes and operations of each op of a program.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rwkvnative {

// In which arithmetic an op does most of its work.
enum class Arithmetic : uint8_t { F32, F16, Int8 };

// What a device can do at best, measured by small kernels of its backend (not read from a data sheet). 0: not measured,
// because the device cannot do it or the backend never does.
struct Ceilings {
  double read_bytes_per_second = 0;    // streaming read of memory that no cache holds
  double dispatch_seconds = 0;         // a step that waits for the one before and does nothing: dispatch on a GPU, barrier on a CPU
  double int8_per_second = 0;          // multiplications and additions of int8 products summed in int32
  double f16_per_second = 0;           // the same with float16 vectors
  double f32_per_second = 0;           // with float32 vectors
  double matrix_per_second = 0;        // float16 products by the device's matrix units
  double upload_bytes_per_second = 0;  // host memory to device memory

  double of(Arithmetic arithmetic) const {
    switch (arithmetic) {
      case Arithmetic::Int8: return int8_per_second;
      case Arithmetic::F16: return f16_per_second;
      case Arithmetic::F32: break;
    }
    return f32_per_second;
  }
};

// Bytes and operations of a piece of work: weights are read once for all rows, the rest once for each row or sequence.
struct Cost {
  uint64_t weight_bytes = 0;
  uint64_t row_bytes = 0;       // activations in and out
  uint64_t sequence_bytes = 0;  // recurrent state, read and written
  uint64_t row_operations = 0;  // a multiplication and an addition are two
  Arithmetic arithmetic = Arithmetic::F32;

  uint64_t bytes(uint64_t rows, uint64_t sequences) const {
    return weight_bytes + rows * row_bytes + sequences * sequence_bytes;
  }
};

// One step of a program: an op of the plan, a part of one, or several fused. `kind` is the first word of the label.
struct OpTime {
  std::string label;
  int32_t layer = -1;  // -1: before, after or outside of the layers
  double microseconds = 0;
  uint64_t bytes = 0;  // that must move at least once
  uint64_t operations = 0;
  Arithmetic arithmetic = Arithmetic::F32;
};

// Weights that do not stay on the device, on their way to it; nothing else ran meanwhile.
struct UploadTime {
  std::string label;  // "layer 3"
  uint64_t bytes = 0;
  double microseconds = 0;  // by the host's clock
  size_t first_op = 0;      // the op that waits for them
};

struct OpTimes {
  std::vector<OpTime> ops;          // in the order in which they run
  std::vector<UploadTime> uploads;  // the same; empty where all weights stay
  double upload_microseconds = 0;   // of all of them in one go, by the host's clock; 0: not timed
  bool timestamps = false;  // by the device's own clock; else wall clock around each op
};

// One step of a model: a token for each sequence, or a chunk of a prompt. Medians over repeats.
struct StepProfile {
  uint32_t rows = 0, sequences = 0;
  OpTimes times;
  double step_seconds = 0;    // wall clock from step to step, tickets in flight
  double submit_seconds = 0;  // of it: the host's work for a submit
  double alone_seconds = 0;   // wall clock of a step that is submitted and waited for, none in flight
};

}  // namespace rwkvnative
