// Q5_K, y = d s q - dmin m. Row: low codes 16 B a unit; (d, dmin, twelve scale bytes) 16 B per 256 values; fifth bits 4 B a unit.
fn decode_q5_k(row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(weights[row + unit]);
  let heads = row + units;
  let bits = fifth_bits(weight_word(4u * (heads + (units >> 3u)) + unit));
  block.low |= bits[0];
  block.high |= bits[1];
  let head = weights[heads + (unit >> 3u)];
  let d = unpack2x16float(head.x) * scale_min(head.yzw, unit & 7u);
  block.scale = vec2(d.x);
  block.offset = vec2(-d.y);
  return block;
}
