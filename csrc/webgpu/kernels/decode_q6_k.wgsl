// Q6_K, y = d s (q - 32), s per 16 values. Row: low codes 16 B a unit; high two bits 8 B a unit; s (signed bytes) 2 B a unit;
// d 2 B per 256 values.
fn decode_q6_k(row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(weights[row + unit]);
  let plane = 4u * (row + units);
  block.low |= two_bits(weight_word(plane + 2u * unit)) << vec4(4u);
  block.high |= two_bits(weight_word(plane + 2u * unit + 1u)) << vec4(4u);
  let scales = 2u * plane + 4u * units + unit;  // in halves
  let pair = weight_word(scales >> 1u) >> (16u * (scales & 1u));
  let s = vec2(extractBits(bitcast<i32>(pair), 0u, 8u), extractBits(bitcast<i32>(pair), 8u, 8u));
  let d = weight_half(2u * plane + 5u * units + (unit >> 3u));
  block.scale = d * vec2<f32>(s);
  block.offset = -32.0 * block.scale;
  return block;
}
