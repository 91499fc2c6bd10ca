// Q5_K, y = d s q - dmin m. Row: low codes 16 B a unit; fifth bits 4 B a unit; (d, dmin) 4 B per 256 values; (s, m) bytes,
// 2 B a unit.
fn load_q5_k(row: u32, unit: u32, units: u32) -> Packed {
  let plane = 4u * units;
  return packed_unit(row_vec4(row, unit), row_word(row, plane + unit), row_word(row, plane + units + (unit >> 3u)),
                row_word(row, plane + units + (units >> 3u) + (unit >> 1u)));
}
fn unpack_q5_k(packed: Packed, row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(packed.codes);
  let bits = fifth_bits(packed.words.x);
  block.low |= bits[0];
  block.high |= bits[1];
  let d = unpack2x16float(packed.words.y);
  let s_m = packed.words.z >> (16u * (unit & 1u));
  block.scale = vec2(d.x * f32(s_m & 255u));
  block.offset = vec2(-d.y * f32((s_m >> 8u) & 255u));
  return block;
}
fn decode_q5_k(row: u32, unit: u32, units: u32) -> Block {
  return unpack_q5_k(load_q5_k(row, unit, units), row, unit, units);
}
