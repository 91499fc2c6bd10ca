// Kind $NAME: $LANES threads and $SLICES slices a row, $ROWS rows a thread; a step's weights are on their way while the step before
// is multiplied; where activations are staged, a chunk's while the chunk before is.
fn run_$NAME(part: Part, thread: u32, tile: u32) {
  let lane = thread % $LANESu;
  let slice = thread / $LANESu % $SLICESu;
  let group = thread / ($LANESu * $SLICESu);
  $STEPS
  $MEET
  workgroupBarrier();
  $FINISH
}
