// What a matrix does with its sums: core/plan.h's Activation, and out += sum, which leaves the sum as it is.
const kNone = 0u;
const kTanh = 1u;
const kSigmoid = 2u;
const kReluSquared = 3u;
const kAccumulate = 4u;

fn activate(value: f32, activation: u32) -> f32 {
  switch (activation) {
    case kTanh: { return 1.0 - 2.0 / (exp(2.0 * clamp(value, -20.0, 20.0)) + 1.0); }
    case kSigmoid: { return 1.0 / (1.0 + exp(-value)); }
    case kReluSquared: { let positive = max(value, 0.0); return positive * positive; }
    default: { return value; }
  }
}
