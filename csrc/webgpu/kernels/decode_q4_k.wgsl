// Q4_K, y = d s q - dmin m. Row: codes 16 B a unit; (d, dmin, twelve scale bytes) 16 B per 256 values.
fn decode_q4_k(row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(weights[row + unit]);
  let head = weights[row + units + (unit >> 3u)];
  let d = unpack2x16float(head.x) * scale_min(head.yzw, unit & 7u);
  block.scale = vec2(d.x);
  block.offset = vec2(-d.y);
  return block;
}
