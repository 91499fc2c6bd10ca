// The residual stream as in x_as_it_is.wgsl where a product has left its sums (kept_sums.wgsl): x += them. It moves to another place,
// for what a workgroup adds to its row others may read without.
fn x_quads(row: u32, thread: u32) -> Quads {
  let factor = sums_factor(kSumsScales, row, 0u);
  var quads: Quads;
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    if (quad < kQuads) { quads[i] = x_quad(row, quad, factor); }
  }
  return quads;
}
fn x_quad(row: u32, quad: u32, factor: f32) -> vec4<f32> {
  let added = added_quad(kSums + row * kSumsStride + quad, kSumsSplitStride, kSumsSplits) * factor;
  // What is beyond the width is padding, and zero.
  return act_vec4(kX + row * kXStride + quad) + select(vec4(0.0), added, quad_mask(quad) == vec4(1.0));
}
fn first_x(row: u32) -> f32 {
  return x_quad(row, 0u, sums_factor(kSumsScales, row, 0u)).x;
}
fn move_x(row: u32, thread: u32, x: Quads) {
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    if (quad < kQuads) { act[kXMoved + row * kXStride + quad] = bitcast<vec4<u32>>(x[i]); }
  }
}
