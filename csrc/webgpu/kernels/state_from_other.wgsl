// The part of the state that a kernel replaces, read from another state's memory: no copy goes before.
@group(1) @binding(0) var<storage, read_write> state: array<$TYPE>;
@group(2) @binding(0) var<storage, read_write> other_state: array<$TYPE>;
fn old_state(at: u32) -> $TYPE {
  return other_state[at];
}
fn set_state(at: u32, value: $TYPE) {
  state[at] = value;
}
