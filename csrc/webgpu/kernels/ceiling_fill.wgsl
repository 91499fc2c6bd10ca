// Words that no memory system can shorten, for ceiling_read.wgsl: act[i] = hash of i. One vec4 a thread and step.
@group(0) @binding(1) var<storage, read_write> act: array<vec4<u32>>;

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  for (var step = 0u; step < kSteps; step++) {
    let at = (workgroup.x * kSteps + step) * kWorkgroup + thread;
    act[at] = (vec4(at) * 4u + vec4(0u, 1u, 2u, 3u)) * 2654435761u;
  }
}
