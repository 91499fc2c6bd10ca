// (first row, rows) of the sequence: a program for one token of one sequence.
fn sequence_rows() -> vec2<u32> {
  return vec2(0u, 1u);
}
