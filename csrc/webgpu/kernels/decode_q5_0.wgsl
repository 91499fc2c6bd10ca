// Q5_0, y = d (q - 16). Row: low codes 16 B a unit; fifth bits 4 B a unit; d 2 B a unit.
fn load_q5_0(row: u32, unit: u32, units: u32) -> Packed {
  return packed_unit(row_vec4(row, unit), row_word(row, 4u * units + unit),
                row_half_word(row, 10u * units + unit), 0u);
}
fn unpack_q5_0(packed: Packed, row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(packed.codes);
  let bits = fifth_bits(packed.words.x);
  block.low |= bits[0];
  block.high |= bits[1];
  let d = half_of(packed.words.y, unit);
  block.scale = vec2(d);
  block.offset = vec2(-16.0 * d);
  return block;
}
fn decode_q5_0(row: u32, unit: u32, units: u32) -> Block {
  return unpack_q5_0(load_q5_0(row, unit, units), row, unit, units);
}
