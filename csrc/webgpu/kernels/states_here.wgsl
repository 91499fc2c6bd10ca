// states.wgsl for a workgroup that works on one sequence, which it says once.
@group(1) @binding(0) var<storage, read_write> states: array<$TYPE>;
@group(2) @binding(0) var<storage, read> sequences: array<vec4<u32>>;
const kNoSlot = 0xffffffffu;
var<private> sequence: vec4<u32>;

fn old_state(at: u32) -> $TYPE {
  if (sequence.z == kNoSlot) { return $TYPE(); }
  return states[sequence.z * kSlotStride + kPartOffset + at];
}
fn set_state(at: u32, value: $TYPE) {
  states[sequence.w * kSlotStride + kPartOffset + at] = value;
}
