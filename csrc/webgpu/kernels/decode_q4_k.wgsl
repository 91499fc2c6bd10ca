// Q4_K, y = d s q - dmin m. Row: codes 16 B a unit; (d, dmin) 4 B per 256 values; (s, m) bytes, 2 B a unit.
fn load_q4_k(row: u32, unit: u32, units: u32) -> Packed {
  let heads = 4u * (row + units);
  return packed_unit(weights[row + unit], weight_word(heads + (unit >> 3u)), weight_word(heads + (units >> 3u) + (unit >> 1u)), 0u);
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
