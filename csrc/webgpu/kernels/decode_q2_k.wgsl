// Q2_K, y = d s q - dmin m, s and m per 16 values. Row: codes 8 B a unit; (s | m << 4) 2 B a unit; (d, dmin) 4 B per 256 values.
fn load_q2_k(row: u32, unit: u32, units: u32) -> Packed {
  // units is a multiple of 8: the scale plane is a whole number of words
  return packed_unit(vec4(row_word(row, 2u * unit), row_word(row, 2u * unit + 1u), 0u, 0u),
                row_half_word(row, 4u * units + unit),
                row_word(row, 2u * units + (units >> 1u) + (unit >> 3u)), 0u);
}
fn unpack_q2_k(packed: Packed, row: u32, unit: u32, units: u32) -> Block {
  let pair = packed.words.x >> (16u * (unit & 1u));
  let d = unpack2x16float(packed.words.y);
  return Block(two_bits(packed.codes.x), two_bits(packed.codes.y), d.x * vec2(f32(pair & 15u), f32((pair >> 8u) & 15u)),
               -d.y * vec2(f32((pair >> 4u) & 15u), f32((pair >> 12u) & 15u)));
}
fn decode_q2_k(row: u32, unit: u32, units: u32) -> Block {
  return unpack_q2_k(load_q2_k(row, unit, units), row, unit, units);
}
