// Kind $NAME: $LANES threads a row, $ROWS rows a thread. The loads of the first steps come before the row is made, their
// arithmetic after it.
fn run_$NAME(part: Part, thread: u32) {
  let lane = lane_of(thread, $LANESu);
  let group = group_of(thread, $LANESu);
  let tile = 0u;
  var sums: array<f32, $ROWS>;
  let vectors = load_vectors(part, thread);
  $LOADS
  $BEFORE
  let stats = input_stats(vectors, thread);
  make_mixed(vectors, stats, $CODES, thread);
  $DOTS
  $FINISH
}
