// Q4_K, y = d s q - dmin m. Row: codes 16 B a unit; (d, dmin) 4 B per 256 values; (s, m) bytes, 2 B a unit.
fn decode_q4_k(row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(weights[row + unit]);
  let heads = 4u * (row + units);
  let d = unpack2x16float(weight_word(heads + (unit >> 3u)));
  let s_m = weight_word(heads + (units >> 3u) + (unit >> 1u)) >> (16u * (unit & 1u));
  block.scale = vec2(d.x * f32(s_m & 255u));
  block.offset = vec2(-d.y * f32((s_m >> 8u) & 255u));
  return block;
}
