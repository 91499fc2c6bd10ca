// Eight consecutive weights of a float matrix: octet i of the row that starts at vec4 `row`.
struct Octet {
  low: vec4<f32>,
  high: vec4<f32>,
}
fn load_f32(row: u32, i: u32, octets: u32) -> Packed {
  return Packed(row_vec4(row, 2u * i), row_vec4(row, 2u * i + 1u), vec4(0u));
}
fn unpack_f32(packed: Packed) -> Octet {
  return Octet(bitcast<vec4<f32>>(packed.codes), bitcast<vec4<f32>>(packed.more_codes));
}
fn load_f16(row: u32, i: u32, octets: u32) -> Packed {
  return Packed(row_vec4(row, i), vec4(0u), vec4(0u));
}
fn unpack_f16(packed: Packed) -> Octet {
  let bits = packed.codes;
  return Octet(vec4(unpack2x16float(bits.x), unpack2x16float(bits.y)), vec4(unpack2x16float(bits.z), unpack2x16float(bits.w)));
}
fn load_bf16(row: u32, i: u32, octets: u32) -> Packed {
  return load_f16(row, i, octets);
}
fn unpack_bf16(packed: Packed) -> Octet {
  let even = bitcast<vec4<f32>>(packed.codes << vec4(16u));
  let odd = bitcast<vec4<f32>>(packed.codes & vec4(0xffff0000u));
  return Octet(vec4(even.x, odd.x, even.y, odd.y), vec4(even.z, odd.z, even.w, odd.w));
}
fn octet_f32(row: u32, i: u32) -> Octet {
  return unpack_f32(load_f32(row, i, 0u));
}
fn octet_f16(row: u32, i: u32) -> Octet {
  return unpack_f16(load_f16(row, i, 0u));
}
fn octet_bf16(row: u32, i: u32) -> Octet {
  return unpack_bf16(load_bf16(row, i, 0u));
}
