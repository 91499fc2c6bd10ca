// Q5_K, y = d s q - dmin m. Row: low codes 16 B a unit; fifth bits 4 B a unit; (d, dmin) 4 B per 256 values; (s, m) bytes,
// 2 B a unit.
fn decode_q5_k(row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(weights[row + unit]);
  let plane = 4u * (row + units);
  let bits = fifth_bits(weight_word(plane + unit));
  block.low |= bits[0];
  block.high |= bits[1];
  let d = unpack2x16float(weight_word(plane + units + (unit >> 3u)));
  let s_m = weight_word(plane + units + (units >> 3u) + (unit >> 1u)) >> (16u * (unit & 1u));
  block.scale = vec2(d.x * f32(s_m & 255u));
  block.offset = vec2(-d.y * f32((s_m >> 8u) & 255u));
  return block;
}
