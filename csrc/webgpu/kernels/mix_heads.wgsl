// The row of mix_linear.wgsl that ends the time mix: each head's group norm, then bonus and gate,
//   row = (y - mean) / deviation * gate_weight + rest * gate
// act, all [C], from wkv7_rows.wgsl: y; rest = bias + v sum(r k r_k); gate = lora_g; gate_weight = the norm's weight times it.
// kHeadQuads neighbouring threads, a power of two, have a head's quads.
struct Vectors {
  y: Quads,
  near: array<f32, kPerThread>,  // one of the head's values: see row_stats() in layer_norm.wgsl
  weight: Quads,
  bias: Quads,
}
fn load_vectors(part: Part, thread: u32) -> Vectors {
  var vectors: Vectors;
  for (var i = 0u; i < kPerThread; i++) {
    let quad = min(thread + i * kWorkgroup, kQuads - 1u);
    vectors.y[i] = act_vec4(kY + quad);
    vectors.near[i] = act_f32(4u * (kY + quad / kHeadQuads * kHeadQuads));
    vectors.weight[i] = act_vec4(kGateWeight + quad);
    vectors.bias[i] = act_vec4(kRest + quad) * act_vec4(kGate + quad);
  }
  return vectors;
}

alias Stats = array<vec2<f32>, kPerThread>;
fn input_stats(vectors: Vectors, thread: u32) -> Stats {
  var stats: Stats;
  for (var i = 0u; i < kPerThread; i++) {
    let shifted = vectors.y[i] - vectors.near[i];
    let mean = group_sum(dot(shifted, vec4(1.0)), kHeadQuads) / f32(4u * kHeadQuads);
    let square = group_sum(dot(shifted, shifted), kHeadQuads) / f32(4u * kHeadQuads);
    stats[i] = vec2(vectors.near[i] + mean, inverseSqrt(max(square - mean * mean, 0.0) + kEpsilon));
  }
  return stats;
}
fn mixed_quad(vectors: Vectors, stats: Stats, i: u32, quad: u32) -> vec4<f32> {
  return (vectors.y[i] - stats[i].x) * stats[i].y * vectors.weight[i] + vectors.bias[i];
}
