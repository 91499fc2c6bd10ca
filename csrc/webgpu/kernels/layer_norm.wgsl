// h = (x - mean) / sqrt(variance + epsilon) * weight + bias over kWidth values, two passes over registers.
// Thread t holds quads t, t + kWorkgroup, ... of the row. Callers load what they need of memory before the first reduction, so
// that the latencies overlap: no compiler moves a load over a barrier.
alias Quads = array<vec4<f32>, kPerThread>;

// This thread's quads of a vector in the weights; beyond the row, of its last quad.
fn weight_quads(vector: u32, thread: u32) -> Quads {
  var quads: Quads;
  for (var i = 0u; i < kPerThread; i++) { quads[i] = norm_vector(vector + min(thread + i * kWorkgroup, kQuads - 1u)); }
  return quads;
}

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

fn layer_norm(x: Quads, thread: u32, weight: Quads, bias: Quads) -> Quads {
  var sum = 0.0;
  for (var i = 0u; i < kPerThread; i++) { sum += dot(x[i], vec4(1.0)); }  // padding is zero
  let mean = workgroup_sum(sum) / f32(kWidth);
  var squares = 0.0;
  for (var i = 0u; i < kPerThread; i++) {
    let centred = (x[i] - mean) * quad_mask(thread + i * kWorkgroup);
    squares += dot(centred, centred);
  }
  let scale = inverseSqrt(workgroup_sum(squares) / f32(kWidth) + kEpsilon);
  var h: Quads;
  for (var i = 0u; i < kPerThread; i++) {
    h[i] = ((x[i] - mean) * scale * weight[i] + bias[i]) * quad_mask(thread + i * kWorkgroup);
  }
  return h;
}
