// Eight $TYPE weights as float16, times the matrix's scale.
fn put_$TYPE(at: u32, piece: vec4<u32>, scale: f32) {
  let values = unpack_$TYPE(Packed(piece, vec4(0u), vec4(0u)));
  let low = values.low * scale;
  let high = values.high * scale;
  put_octet(at, vec4(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw)));
}
