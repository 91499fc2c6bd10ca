// Q8_0, y = d q. Row: codes 32 B a unit; d 2 B a unit.
fn load_q8_0(row: u32, unit: u32, units: u32) -> Packed {
  return Packed(row_vec4(row, 2u * unit), row_vec4(row, 2u * unit + 1u),
                vec4(row_half_word(row, 16u * units + unit), 0u, 0u, 0u));
}
fn unpack_q8_0(packed: Packed, row: u32, unit: u32, units: u32) -> Block {
  return Block(packed.codes, packed.more_codes, vec2(half_of(packed.words.x, unit)), vec2(0.0));
}
fn decode_q8_0(row: u32, unit: u32, units: u32) -> Block {
  return unpack_q8_0(load_q8_0(row, unit, units), row, unit, units);
}
