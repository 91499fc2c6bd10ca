fn run(workgroup: vec3<u32>, thread: u32, subgroup: u32) {
  let part = part_of(workgroup.x);
  let row = workgroup.y * kTileRows;
  var inputs = load_inputs(part, row, part.step, thread);
  var units = load_weights(part, part.step, thread);
  $START
  for (var step = part.step; step < part.last; step++) {
    workgroupBarrier();
    put_inputs(inputs, thread);
    put_weights(part, units, step, thread);
    workgroupBarrier();
    let next = min(step + 1u, part.last - 1u);
    inputs = load_inputs(part, row, next, thread);
    units = load_weights(part, next, thread);
    $MULTIPLY
  }
  $FINISH
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32$SUBGROUP) {
  run(workgroup, thread, $SUBGROUP_ID);
}
