// Kind $NAME, whose steps linear_quant.wgsl or linear_float.wgsl has: compile_linear.cpp prints their calls, Tuning::unroll in a row.
fn run_$NAME(part: Part, thread: u32, tile: u32) {
  let lane = lane_of(thread, $LANESu);
  let group = group_of(thread, $LANESu);
  var sums: array<f32, $SUMS>;
  $BEFORE
  $STEPS
  $FINISH
}
