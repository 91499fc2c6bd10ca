// The row of mix_linear.wgsl that shift_mix.wgsl would make:
//   mixed = h + (previous - h) lerp with h = (x - mean) / deviation * weight + bias
// weights: the norm's vectors, lerp of each mix (part.input). act: x. state: the h of the token before, read from one buffer by all
// workgroups; one more, which has no matrix, writes this token's to another.
// What a thread needs of memory to mix its quads: asked for before anything else, the weights after it.
struct Vectors {
  x: Quads,
  near: f32,
  weight: Quads,  // of the norm, times 1 - lerp
  bias: Quads,    // of the norm, times 1 - lerp; plus the previous h times lerp
}
fn load_vectors(part: Part, thread: u32) -> Vectors {
  var vectors: Vectors;
  vectors.x = act_quads(kX, thread);
  vectors.near = act_f32(4u * kX);
  for (var i = 0u; i < kPerThread; i++) {
    let quad = min(thread + i * kWorkgroup, kQuads - 1u);
    let lerp = weight_vec4(part.input + quad);
    vectors.weight[i] = weight_vec4(kNormWeight + quad) * (1.0 - lerp);
    vectors.bias[i] = weight_vec4(kNormBias + quad) * (1.0 - lerp) + old_state(quad) * lerp;
  }
  return vectors;
}

alias Stats = vec2<f32>;
fn input_stats(vectors: Vectors, thread: u32) -> Stats {
  return row_stats(vectors.x, vectors.near, thread);
}
fn mixed_quad(vectors: Vectors, stats: Stats, i: u32, quad: u32) -> vec4<f32> {
  return normed(vectors.x[i], stats, vectors.weight[i], vectors.bias[i], quad);
}

fn keep_state(thread: u32) {
  let x = act_quads(kX, thread);
  let near = act_f32(4u * kX);
  var weight: Quads;
  var bias: Quads;
  for (var i = 0u; i < kPerThread; i++) {
    let quad = min(thread + i * kWorkgroup, kQuads - 1u);
    weight[i] = weight_vec4(kNormWeight + quad);
    bias[i] = weight_vec4(kNormBias + quad);
  }
  let stats = row_stats(x, near, thread);
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    if (quad < kQuads) { set_state(quad, normed(x[i], stats, weight[i], bias[i], quad)); }
  }
}
