// Q4_0, y = d (q - 8). Row: codes 16 B a unit; d 2 B a unit.
fn load_q4_0(row: u32, unit: u32, units: u32) -> Packed {
  return packed_unit(row_vec4(row, unit), row_half_word(row, 8u * units + unit), 0u, 0u);
}
fn unpack_q4_0(packed: Packed, row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(packed.codes);
  let d = half_of(packed.words.x, unit);
  block.scale = vec2(d);
  block.offset = vec2(-8.0 * d);
  return block;
}
fn decode_q4_0(row: u32, unit: u32, units: u32) -> Block {
  return unpack_q4_0(load_q4_0(row, unit, units), row, unit, units);
}
