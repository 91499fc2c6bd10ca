// Neighbouring threads of a mat-vec take neighbouring rows, for rows that lie side by side: neighbours then read neighbouring
// bytes. Which of a row's threads a thread is, which of the workgroup's rows it has, and the sum over a row's threads, which all of
// them get.
var<workgroup> lane_sums: array<f32, kWorkgroup>;

fn lane_of(thread: u32, lanes: u32) -> u32 {
  return thread / (kWorkgroup / lanes);
}
fn group_of(thread: u32, lanes: u32) -> u32 {
  return thread % (kWorkgroup / lanes);
}
fn row_sum(value: f32, thread: u32, lanes: u32) -> f32 {
  workgroupBarrier();  // the sums before have been read
  lane_sums[thread] = value;
  workgroupBarrier();
  let groups = kWorkgroup / lanes;
  var sum = 0.0;
  for (var lane = 0u; lane < lanes; lane++) { sum += lane_sums[lane * groups + thread % groups]; }
  return sum;
}
