// The sums of a product's splits (matmat.wgsl), added up by the kernel that reads the outputs: in the order of reduce.wgsl.
@group(0) @binding(3) var<storage, read> scalars: array<f32>;  // first of each matrix: what undoes the scales of its weights
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<f32>>;

// A quad of sums, from a split's to the next one's so many vec4.
fn added_quad(first: u32, split_stride: u32, splits: u32) -> vec4<f32> {
  var sum = vec4(0.0);
  for (var split = 0u; split < splits; split++) { sum += sums[first + split * split_stride]; }
  return sum;
}
// Likewise a single one, as values.
fn added_value(first: u32, split_stride: u32, splits: u32) -> f32 {
  var sum = 0.0;
  for (var split = 0u; split < splits; split++) {
    let at = first + split * split_stride;
    sum += sums[at >> 2u][at & 3u];
  }
  return sum;
}
// What undoes the scales of a product's operands, for a row whose factor is behind that vec4.
fn sums_factor(scales: u32, row: u32, matrix: u32) -> f32 {
  return act_f32(4u * scales + row) * scalars[matrix];
}
