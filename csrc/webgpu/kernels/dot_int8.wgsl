// A unit of int8 activations, and its product with a unit of weights: integer dot products of the codes, float32 scales.
struct Input {
  low: vec4<u32>,
  high: vec4<u32>,
  head: vec4<f32>,
}
fn load_input(codes: u32, heads: u32, unit: u32, units: u32) -> Input {
  return Input(act[codes + unit], act[codes + units + unit], bitcast<vec4<f32>>(act[heads + unit]));
}
fn half_dot(a: vec4<u32>, b: vec4<u32>) -> i32 {
  return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}
// One scale for all 32 values.
fn dot32(block: Block, x: Input) -> f32 {
  return x.head.x * block.scale.x * f32(half_dot(block.low, x.low) + half_dot(block.high, x.high)) + block.offset.x * x.head.w;
}
// A scale for each 16 values.
fn dot16(block: Block, x: Input) -> f32 {
  return x.head.x * (block.scale.x * f32(half_dot(block.low, x.low)) + block.scale.y * f32(half_dot(block.high, x.high))) +
         block.offset.x * x.head.y + block.offset.y * x.head.z;
}
// sum + dot32 and sum + dot16 in fewer steps: for many products of a block.
fn add_dot32(sum: f32, block: Block, x: Input) -> f32 {
  return fma(f32(half_dot(block.low, x.low) + half_dot(block.high, x.high)) * block.scale.x, x.head.x, fma(block.offset.x, x.head.w, sum));
}
fn add_dot16(sum: f32, block: Block, x: Input) -> f32 {
  let scaled = fma(f32(half_dot(block.high, x.high)), block.scale.y, f32(half_dot(block.low, x.low)) * block.scale.x);
  return fma(scaled, x.head.x, fma(block.offset.x, x.head.y, fma(block.offset.y, x.head.z, sum)));
}
