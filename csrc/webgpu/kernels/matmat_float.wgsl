// 32 weights of a $TYPE row as float16, times kWeightScale: octets 4 unit .. 4 unit + 3 of `octets`.
fn fetch_$TYPE(row: u32, unit: u32, octets: u32) -> Fetched {
  var halves: Fetched;
  for (var i = 0u; i < 4u; i++) {
    let octet = 4u * unit + i;
    if (octet < octets) {
      let values = octet_$TYPE(row, octet);
      let low = values.low * kWeightScale;
      let high = values.high * kWeightScale;
      halves[i] = vec4(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
    }
  }
  return halves;
}
fn put_$TYPE(at: u32, halves: Fetched, row: u32, unit: u32, octets: u32) {
  for (var i = 0u; i < 4u; i++) { put_octet(at + 8u * i, halves[i]); }
}
