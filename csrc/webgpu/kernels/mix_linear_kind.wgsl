// Kind $NAME: $LANES threads a row, $ROWS rows a thread. The loads of the first steps come before the mixing, their arithmetic
// after it.
fn run_$NAME(part: Part, keeps_state: bool, thread: u32) {
  let lane = thread % $LANESu;
  let group = thread / $LANESu;
  let tile = 0u;
  var sums: array<f32, $ROWS>;
  let vectors = load_vectors(part, thread);
  $LOADS
  make_mixed(vectors, keeps_state, $CODES, thread);
  $DOTS
  $FINISH
}
