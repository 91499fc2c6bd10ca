// IQ4_XS, y = d (s - 32) codebook[q]. Row: codes 16 B a unit; (d | scales_h << 16, scales_l) 8 B per 256 values.
fn load_iq4_xs(row: u32, unit: u32, units: u32) -> Packed {
  let head = 4u * units + 2u * (unit >> 3u);
  return packed_unit(row_vec4(row, unit), row_word(row, head), row_word(row, head + 1u), 0u);
}
fn unpack_iq4_xs(packed: Packed, row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(packed.codes);
  block.low = iq4_words(block.low);
  block.high = iq4_words(block.high);
  let d_high = packed.words.x;
  let j = unit & 7u;
  let s = ((packed.words.y >> (4u * j)) & 15u) | (((d_high >> (16u + 2u * j)) & 3u) << 4u);
  block.scale = vec2(unpack2x16float(d_high).x * (f32(s) - 32.0));
  return block;
}
fn decode_iq4_xs(row: u32, unit: u32, units: u32) -> Block {
  return unpack_iq4_xs(load_iq4_xs(row, unit, units), row, unit, units);
}
