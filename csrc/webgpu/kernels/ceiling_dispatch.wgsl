// Next to nothing: a chain of these, each waiting for the one before, costs what a dependent dispatch costs.
@group(0) @binding(1) var<storage, read_write> act: array<vec4<u32>>;

@compute @workgroup_size(32)
fn main(@builtin(local_invocation_index) thread: u32) {
  if (thread == 0u) { act[0].x += 1u; }
}
