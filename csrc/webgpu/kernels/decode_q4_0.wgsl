// Q4_0, y = d (q - 8). Row: codes 16 B a unit; d 2 B a unit.
fn decode_q4_0(row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(weights[row + unit]);
  let d = weight_half(8u * (row + units) + unit);
  block.scale = vec2(d);
  block.offset = vec2(-8.0 * d);
  return block;
}
