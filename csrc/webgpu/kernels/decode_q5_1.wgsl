// Q5_1, y = d q + m. Row: low codes 16 B a unit; fifth bits 4 B a unit; (d, m) 4 B a unit.
fn decode_q5_1(row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(weights[row + unit]);
  let bits = fifth_bits(weight_word(4u * (row + units) + unit));
  block.low |= bits[0];
  block.high |= bits[1];
  let dm = unpack2x16float(weight_word(4u * (row + units) + units + unit));
  block.scale = vec2(dm.x);
  block.offset = vec2(dm.y);
  return block;
}
