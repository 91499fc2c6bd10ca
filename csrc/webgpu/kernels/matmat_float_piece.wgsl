// Four weights as float16, times the matrix's scale.
fn put_f32(at: u32, piece: vec4<u32>, scale: f32) {
  let values = bitcast<vec4<f32>>(piece) * scale;
  put_quad(at, vec2(pack2x16float(values.xy), pack2x16float(values.zw)));
}
