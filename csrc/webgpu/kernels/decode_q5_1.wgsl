// Q5_1, y = d q + m. Row: low codes 16 B a unit; fifth bits 4 B a unit; (d, m) 4 B a unit.
fn load_q5_1(row: u32, unit: u32, units: u32) -> Packed {
  let plane = 4u * units;
  return packed_unit(row_vec4(row, unit), row_word(row, plane + unit), row_word(row, plane + units + unit), 0u);
}
fn unpack_q5_1(packed: Packed, row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(packed.codes);
  let bits = fifth_bits(packed.words.x);
  block.low |= bits[0];
  block.high |= bits[1];
  let dm = unpack2x16float(packed.words.y);
  block.scale = vec2(dm.x);
  block.offset = vec2(dm.y);
  return block;
}
fn decode_q5_1(row: u32, unit: u32, units: u32) -> Block {
  return unpack_q5_1(load_q5_1(row, unit, units), row, unit, units);
}
