// A unit of float32 activations, and its product with a unit of weights decoded to float32.
alias Unit = array<vec4<f32>, 8>;

fn load_input_f32(values: u32, unit: u32) -> Unit {
  let at = values + 8u * unit;
  return Unit(act_vec4(at), act_vec4(at + 1u), act_vec4(at + 2u), act_vec4(at + 3u), act_vec4(at + 4u), act_vec4(at + 5u),
              act_vec4(at + 6u), act_vec4(at + 7u));
}
fn code_values(codes: u32, scale: f32, offset: f32) -> vec4<f32> {
  return vec4<f32>(unpack4xI8(codes)) * scale + offset;
}
fn unit_values(block: Block) -> Unit {
  let scale = block.scale;
  let offset = block.offset;
  return Unit(code_values(block.low.x, scale.x, offset.x), code_values(block.low.y, scale.x, offset.x),
              code_values(block.low.z, scale.x, offset.x), code_values(block.low.w, scale.x, offset.x),
              code_values(block.high.x, scale.y, offset.y), code_values(block.high.y, scale.y, offset.y),
              code_values(block.high.z, scale.y, offset.y), code_values(block.high.w, scale.y, offset.y));
}
fn dot_f32(w: Unit, x: Unit) -> f32 {
  return dot(w[0], x[0]) + dot(w[1], x[1]) + dot(w[2], x[2]) + dot(w[3], x[3]) + dot(w[4], x[4]) +
         dot(w[5], x[5]) + dot(w[6], x[6]) + dot(w[7], x[7]);
}
