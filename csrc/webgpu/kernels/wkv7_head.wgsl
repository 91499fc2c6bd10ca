// What the kernels of RWKV-7's time mix share that make a head's vectors for themselves: wkv7.wgsl, wkv7_rows.wgsl, wkv7_step.wgsl.
// weights: vectors [C]; act: slots' rows [C].
var<workgroup> head_r: array<vec4<f32>, kHeadSize / 4u>;
var<workgroup> head_w: array<vec4<f32>, kHeadSize / 4u>;
var<workgroup> head_k: array<vec4<f32>, kHeadSize / 4u>;
var<workgroup> head_kk: array<vec4<f32>, kHeadSize / 4u>;    // not yet normalized
var<workgroup> head_kk_a: array<vec4<f32>, kHeadSize / 4u>;  // likewise

fn sigmoid(x: f32) -> f32 {
  return 1.0 / (1.0 + exp(-x));
}

// Value `channel` of a vector of the weights, and of a slot's row, by their vec4 addresses.
fn channel_weight(vector: u32, channel: u32) -> f32 {
  return bitcast<f32>(weight_word(4u * vector + channel));
}
fn channel_act(row: u32, channel: u32) -> f32 {
  return act_f32(4u * row + channel);
}
