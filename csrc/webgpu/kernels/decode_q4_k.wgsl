// Q4_K, y = d s q - dmin m. Row: codes 16 B a unit; (d, dmin) 4 B per 256 values; (s, m) bytes, 2 B a unit.
fn load_q4_k(row: u32, unit: u32, units: u32) -> Packed {
  return packed_unit(row_vec4(row, unit), row_word_behind(row, units, unit >> 3u), row_word_behind(row, units, (units >> 3u) + (unit >> 1u)), 0u);
}
fn unpack_q4_k(packed: Packed, row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(packed.codes);
  let d = unpack2x16float(packed.words.x);
  let s_m = packed.words.y >> (16u * (unit & 1u));
  block.scale = vec2(d.x * f32(s_m & 255u));
  block.offset = vec2(-d.y * f32((s_m >> 8u) & 255u));
  return block;
}
fn decode_q4_k(row: u32, unit: u32, units: u32) -> Block {
  return unpack_q4_k(load_q4_k(row, unit, units), row, unit, units);
}
