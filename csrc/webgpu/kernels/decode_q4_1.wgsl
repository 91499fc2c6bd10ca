// Q4_1, y = d q + m. Row: codes 16 B a unit; (d, m) 4 B a unit.
fn decode_q4_1(row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(weights[row + unit]);
  let dm = unpack2x16float(weight_word(4u * (row + units) + unit));
  block.scale = vec2(dm.x);
  block.offset = vec2(dm.y);
  return block;
}
