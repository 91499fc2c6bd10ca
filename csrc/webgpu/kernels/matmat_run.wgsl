// The loop for $TYPE weights.
fn run_$TYPE(part: Part, row: u32, thread: u32, subgroup: u32) {
  var units = load_weights_$TYPE(part, part.step, thread);
  load_factors(part, row, thread);
  $START
  for (var step = part.step; step < part.last; step++) {
    $FIRST
    workgroupBarrier();
    put_weights_$TYPE(part, units, step, thread);
    workgroupBarrier();
    units = load_weights_$TYPE(part, min(step + 1u, part.last - 1u), thread);
    $MULTIPLY
  }
  $FINISH
}
