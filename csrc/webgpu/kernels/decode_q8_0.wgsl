// Q8_0, y = d q. Row: codes 32 B a unit; d 2 B a unit.
fn decode_q8_0(row: u32, unit: u32, units: u32) -> Block {
  let d = weight_half(8u * (row + 2u * units) + unit);
  return Block(weights[row + 2u * unit], weights[row + 2u * unit + 1u], vec2(d), vec2(0.0));
}
