// Rows of a matrix one behind the other, as in the file: row `row` of those that begin at vec4 `first`, and a row's vec4s
// and words.
fn row_at(first: u32, row: u32, stride: u32, rows: u32) -> u32 {
  return first + row * stride;
}
fn row_vec4(row: u32, i: u32) -> vec4<u32> {
  return weights[row + i];
}
fn row_word(row: u32, i: u32) -> u32 {
  let word = 4u * row + i;  // one shift for address and component: NVIDIA's compiler makes 0.5 % of decode of it
  return weights[word >> 2u][word & 3u];
}
