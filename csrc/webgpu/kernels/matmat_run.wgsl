// The loop for $TYPE weights.
fn run_$TYPE(part: Part, row: u32, thread: u32, subgroup: u32) {
  var inputs = load_inputs(part, row, part.step, thread);
  var units = load_weights_$TYPE(part, part.step, thread);
  $START
  for (var step = part.step; step < part.last; step++) {
    workgroupBarrier();
    put_inputs(inputs, thread);
    put_weights_$TYPE(part, units, step, thread);
    workgroupBarrier();
    let next = min(step + 1u, part.last - 1u);
    inputs = load_inputs(part, row, next, thread);
    units = load_weights_$TYPE(part, next, thread);
    $MULTIPLY
  }
  $FINISH
}
