// A layer of the states of many sequences, slot after slot, and for each sequence of the submit (first row, rows, slot to read
// or kNoSlot for zeros, slot to write); rows is 0 where the state lies in another block, which another dispatch works on.
@group(1) @binding(0) var<storage, read_write> states: array<$TYPE>;
@group(2) @binding(0) var<storage, read> sequences: array<vec4<u32>>;
const kNoSlot = 0xffffffffu;

fn old_state(sequence: vec4<u32>, at: u32) -> $TYPE {
  if (sequence.z == kNoSlot) { return $TYPE(); }
  return states[sequence.z * kSlotStride + kPartOffset + at];
}
fn set_state(sequence: vec4<u32>, at: u32, value: $TYPE) {
  states[sequence.w * kSlotStride + kPartOffset + at] = value;
}
