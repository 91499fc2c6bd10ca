// history[sequence][id] = (count, mark) for the entries (id, count, mark, sequence) of draws[1 ...], draws[0].x of them.
@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let at = workgroup.x * kWorkgroup + thread;
  if (at < draws[0].x) {
    let entry = draws[1u + at];
    history[entry.w * kVocabulary + entry.x] = entry.yz;
  }
}
