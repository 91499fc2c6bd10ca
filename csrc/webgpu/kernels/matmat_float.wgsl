// 32 weights of a $TYPE row as float16, times the matrix's scale: octets 4 unit .. 4 unit + 3 of `octets`.
fn fetch_$TYPE(row: u32, unit: u32, octets: u32, scale: f32) -> Fetched {
  var halves_of_unit: Fetched;
  for (var i = 0u; i < 4u; i++) {
    let octet = 4u * unit + i;
    if (octet < octets) {
      let values = octet_$TYPE(row, octet);
      let low = values.low * scale;
      let high = values.high * scale;
      halves_of_unit[i] = vec4(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
    }
  }
  return halves_of_unit;
}
fn put_$TYPE(at: u32, fetched: Fetched, row: u32, unit: u32, octets: u32, scale: f32) {
  for (var i = 0u; i < 4u; i++) { put_octet(at + 8u * i, fetched[i]); }
}
