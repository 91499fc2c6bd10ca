// The threads of a row of a mat-vec are neighbours, for rows that lie one behind the other: neighbours then read neighbouring
// bytes. Which of a row's threads a thread is, and which of the workgroup's rows it has.
fn lane_of(thread: u32, lanes: u32) -> u32 {
  return thread % lanes;
}
fn group_of(thread: u32, lanes: u32) -> u32 {
  return thread / lanes;
}
