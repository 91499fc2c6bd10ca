// Streaming read: each workgroup reads kSteps * kWorkgroup vec4 in a row of `weights`. The result is kept from being
// optimized away by a write that never happens.
@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> act: array<vec4<u32>>;

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  var sum = vec4(0u);
  for (var step = 0u; step < kSteps; step++) {
    sum ^= weights[(workgroup.x * kSteps + step) * kWorkgroup + thread];
  }
  if (all(sum == vec4(1u, 2u, 3u, 4u))) { act[0] = sum; }
}
