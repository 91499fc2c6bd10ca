@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32$SUBGROUP) {
  let part = part_of(workgroup.x);
  let row = workgroup.y * kTileRows;
  switch (part.kind) {
    $RUN
  }
}
