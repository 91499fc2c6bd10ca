// Arithmetic in registers: kSteps times kChains independent chains of $STEP per thread.
@group(0) @binding(1) var<storage, read_write> act: array<vec4<u32>>;

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let seed = act[0].y + workgroup.x * kWorkgroup + thread;
  var sums: array<$TYPE, kChains>;
  for (var i = 0u; i < kChains; i++) { sums[i] = $START; }
  for (var step = 0u; step < kSteps; step++) {
    for (var i = 0u; i < kChains; i++) { sums[i] = $STEP; }
  }
  var total = sums[0];
  for (var i = 1u; i < kChains; i++) { total += sums[i]; }
  if ($UNLIKELY) { act[1].x = seed; }
}
