// h = (x - mean) / sqrt(variance + epsilon) * weight + bias over kWidth values.
// Thread t holds quads t, t + kWorkgroup, ... of the row. Callers load what they need of memory before the reduction, so that
// the latencies overlap: no compiler moves a load over a barrier.
alias Quads = array<vec4<f32>, kPerThread>;

// This thread's quads of a slot's row, at a vec4 address; zero beyond the row.
fn act_quads(at: u32, thread: u32) -> Quads {
  var quads: Quads;
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    if (quad < kQuads) { quads[i] = act_vec4(at + quad); }
  }
  return quads;
}

// 1 where a value exists: the last quad of an odd width is partly padding.
fn quad_mask(quad: u32) -> vec4<f32> {
  return select(vec4(0.0), vec4(1.0), vec4(4u * quad) + vec4(0u, 1u, 2u, 3u) < vec4(kWidth));
}

// (mean, 1 / sqrt(variance + epsilon)) of a row. `near` is one of its values: sums of x - near and its square need one
// reduction, and lose no digits as sums of x and x^2 would where the mean is large.
fn row_stats(x: Quads, near: f32, thread: u32) -> vec2<f32> {
  var sums = vec2(0.0);
  for (var i = 0u; i < kPerThread; i++) {
    let shifted = (x[i] - near) * quad_mask(thread + i * kWorkgroup);
    sums += vec2(dot(shifted, vec4(1.0)), dot(shifted, shifted));
  }
  sums = workgroup_sum(sums) / f32(kWidth);
  return vec2(near + sums.x, inverseSqrt(max(sums.y - sums.x * sums.x, 0.0) + kEpsilon));
}

fn normed(x: vec4<f32>, stats: vec2<f32>, weight: vec4<f32>, bias: vec4<f32>, quad: u32) -> vec4<f32> {
  return ((x - stats.x) * stats.y * weight + bias) * quad_mask(quad);
}
