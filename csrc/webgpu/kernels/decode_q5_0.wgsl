// Q5_0, y = d (q - 16). Row: low codes 16 B a unit; fifth bits 4 B a unit; d 2 B a unit.
fn decode_q5_0(row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(weights[row + unit]);
  let bits = fifth_bits(weight_word(4u * (row + units) + unit));
  block.low |= bits[0];
  block.high |= bits[1];
  let d = weight_half(8u * (row + units) + 2u * units + unit);
  block.scale = vec2(d);
  block.offset = vec2(-16.0 * d);
  return block;
}
