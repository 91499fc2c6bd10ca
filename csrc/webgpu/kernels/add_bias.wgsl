// logits[sequence][id] += value for the entries (id, value, sequence, 0) of bias[1 ...]; bias[0].x of them, ids distinct.
fn run(workgroup: vec3<u32>, thread: u32) {
  let at = workgroup.x * kWorkgroup + thread;
  if (at < bias[0].x) {
    let entry = bias[1u + at];
    let logit = kLogits + entry.z * kLogitsStride + entry.x;
    act[logit] = bitcast<u32>(bitcast<f32>(act[logit]) + bitcast<f32>(entry.y));
  }
}
@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  run(workgroup, thread);
}
