// Rows of a matrix one behind the other, as in the file: row `row` of those that begin at vec4 `first`, and a row's vec4s,
// words, and words behind its first vec4s.
fn row_at(first: u32, row: u32, stride: u32, rows: u32) -> u32 {
  return first + row * stride;
}
fn row_vec4(row: u32, i: u32) -> vec4<u32> {
  return weights[row + i];
}
fn row_word(row: u32, i: u32) -> u32 {
  return weight_word(4u * row + i);  // one sum for address and component: 0.5 % of decode on an NVIDIA GPU
}
fn row_word_behind(row: u32, vec4s: u32, i: u32) -> u32 {
  return weight_word(4u * (row + vec4s) + i);
}
