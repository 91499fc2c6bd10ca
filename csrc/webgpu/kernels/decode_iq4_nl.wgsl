// IQ4_NL, y = d codebook[q]. Row: codes 16 B a unit; d 2 B a unit.
fn load_iq4_nl(row: u32, unit: u32, units: u32) -> Packed {
  return packed_unit(row_vec4(row, unit), row_half_word(row, 8u * units + unit), 0u, 0u);
}
fn unpack_iq4_nl(packed: Packed, row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(packed.codes);
  block.low = iq4_words(block.low);
  block.high = iq4_words(block.high);
  block.scale = vec2(half_of(packed.words.x, unit));
  return block;
}
fn decode_iq4_nl(row: u32, unit: u32, units: u32) -> Block {
  return unpack_iq4_nl(load_iq4_nl(row, unit, units), row, unit, units);
}
