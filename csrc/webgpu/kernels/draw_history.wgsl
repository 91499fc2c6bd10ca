// history[sequence][id] = (count, mark) for the entries (id, count, mark, sequence) of draws[kFirst ...], draws[kFirst - 1].x of them.
@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let at = workgroup.x * kWorkgroup + thread;
  if (at < draws[kFirst - 1u].x) {
    let entry = draws[kFirst + at];
    history[entry.w * kVocabulary + entry.x] = entry.yz;
  }
}
