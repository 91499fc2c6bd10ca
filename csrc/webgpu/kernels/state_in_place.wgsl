// The part of the state that a kernel replaces, read where it is written.
@group(1) @binding(0) var<storage, read_write> state: array<$TYPE>;
fn old_state(at: u32) -> $TYPE {
  return state[at];
}
fn set_state(at: u32, value: $TYPE) {
  state[at] = value;
}
