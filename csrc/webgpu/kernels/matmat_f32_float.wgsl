// Values 32 unit + 16 half ... of a $TYPE row of `octets` octets.
fn fetch_$TYPE(row: u32, unit: u32, half: u32, octets: u32) -> Sixteen {
  var values: Sixteen;
  for (var i = 0u; i < 2u; i++) {
    let at = 4u * unit + 2u * half + i;
    if (at < octets) {
      let octet = octet_$TYPE(row, at);
      values[2u * i] = octet.low;
      values[2u * i + 1u] = octet.high;
    }
  }
  return values;
}
