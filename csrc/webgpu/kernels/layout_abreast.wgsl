// kAbreast rows of a matrix side by side (abreast() in csrc/core/pack.h), or all of them: row `row` of those that begin at vec4
// `first`, and a row's vec4s and words. A thread works on rows of one matrix at a time: that of its last row_at.
var<private> apart: u32;

fn row_at(first: u32, row: u32, stride: u32, rows: u32) -> u32 {
  apart = select(rows, kAbreast, rows % kAbreast == 0u);
  let local = row % apart;
  return first + (row - local) * stride + local;
}
fn row_vec4(row: u32, i: u32) -> vec4<u32> {
  return weights[row + i * apart];
}
fn row_word(row: u32, i: u32) -> u32 {
  return weights[row + (i >> 2u) * apart][i & 3u];
}
fn row_word_behind(row: u32, vec4s: u32, i: u32) -> u32 {
  return row_word(row, 4u * vec4s + i);
}
