// The loop. Types differ in how weights are loaded and put into the slice; the product and its end are written once, whatever the
// types are: they are most of what a driver compiles.
fn load_weights(part: Part, step: u32, thread: u32) -> Weights {
  switch (part.kind) {
    $LOAD
  }
}
fn put_weights(part: Part, units: Weights, step: u32, thread: u32) {
  switch (part.kind) {
    $PUT
  }
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32$SUBGROUP) {
  let part = part_of(workgroup.x, thread);
  let row = workgroup.y * kTileRows;
  var units = load_weights(part, part.step, thread);
  load_factors(part, row, thread);
  $START
  for (var step = part.step; step < part.last; step++) {
    $FIRST
    workgroupBarrier();
    put_weights(part, units, step, thread);
    workgroupBarrier();
    units = load_weights(part, min(step + 1u, part.last - 1u), thread);
    $MULTIPLY
  }
  $FINISH
}
