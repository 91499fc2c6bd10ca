// Eight consecutive weights of a float matrix: octet i of the row that starts at vec4 `row`.
struct Octet {
  low: vec4<f32>,
  high: vec4<f32>,
}
fn octet_f32(row: u32, i: u32) -> Octet {
  return Octet(bitcast<vec4<f32>>(weights[row + 2u * i]), bitcast<vec4<f32>>(weights[row + 2u * i + 1u]));
}
fn octet_f16(row: u32, i: u32) -> Octet {
  let bits = weights[row + i];
  return Octet(vec4(unpack2x16float(bits.x), unpack2x16float(bits.y)), vec4(unpack2x16float(bits.z), unpack2x16float(bits.w)));
}
fn octet_bf16(row: u32, i: u32) -> Octet {
  let bits = weights[row + i];
  let even = bitcast<vec4<f32>>(bits << vec4(16u));
  let odd = bitcast<vec4<f32>>(bits & vec4(0xffff0000u));
  return Octet(vec4(even.x, odd.x, even.y, odd.y), vec4(even.z, odd.z, even.w, odd.w));
}
