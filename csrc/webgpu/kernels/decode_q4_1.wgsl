// Q4_1, y = d q + m. Row: codes 16 B a unit; (d, m) 4 B a unit.
fn load_q4_1(row: u32, unit: u32, units: u32) -> Packed {
  return packed_unit(row_vec4(row, unit), row_word(row, 4u * units + unit), 0u, 0u);
}
fn unpack_q4_1(packed: Packed, row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(packed.codes);
  let dm = unpack2x16float(packed.words.x);
  block.scale = vec2(dm.x);
  block.offset = vec2(dm.y);
  return block;
}
fn decode_q4_1(row: u32, unit: u32, units: u32) -> Block {
  return unpack_q4_1(load_q4_1(row, unit, units), row, unit, units);
}
