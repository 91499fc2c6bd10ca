// The activations of a program: every slot float32 [rows][width], rows padded to a multiple of 32 values, the padding zero.
// A slot that quantized matrices read also has int8 codes and a head per unit of 32 values: x = d * code, head =
// (d, d * sum of the first 16 codes, d * sum of the last 16, d * sum of all). A row's codes are two planes, the first halves of
// all units and then the second halves: neighbouring threads read neighbouring vectors. Addresses are in vec4.
@group(0) @binding(1) var<storage, read_write> act: array<vec4<u32>>;
// [0] = (rows, sequences, head rows, 0); then (token or -1, sequence, 0, 0) of each row; then (first row, rows, 0, 0) of each sequence.
@group(0) @binding(2) var<storage, read> params: array<vec4<u32>>;

fn act_f32(index: u32) -> f32 {
  return bitcast<f32>(act[index >> 2u][index & 3u]);
}
fn act_vec4(index: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(act[index]);
}
fn set_act_f32(index: u32, value: f32) {
  act[index >> 2u][index & 3u] = bitcast<u32>(value);
}
