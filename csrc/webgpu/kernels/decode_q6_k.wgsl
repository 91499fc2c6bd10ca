// Q6_K, y = d s (q - 32), s per 16 values. Row: low codes 16 B a unit; high two bits 8 B a unit; s (signed bytes) 2 B a unit;
// d 2 B per 256 values.
fn load_q6_k(row: u32, unit: u32, units: u32) -> Packed {
  let plane = 4u * units;
  let scales = 2u * plane + 4u * units + unit;  // in halves
  return Packed(row_vec4(row, unit), vec4(0u),
                vec4(row_word(row, plane + 2u * unit), row_word(row, plane + 2u * unit + 1u), row_half_word(row, scales),
                     row_half_word(row, 2u * plane + 5u * units + (unit >> 3u))));
}
fn unpack_q6_k(packed: Packed, row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(packed.codes);
  block.low |= two_bits(packed.words.x) << vec4(4u);
  block.high |= two_bits(packed.words.y) << vec4(4u);
  let pair = bitcast<i32>(packed.words.z >> (16u * (unit & 1u)));
  let s = vec2(extractBits(pair, 0u, 8u), extractBits(pair, 8u, 8u));
  block.scale = half_of(packed.words.w, 5u * units + (unit >> 3u)) * vec2<f32>(s);
  block.offset = -32.0 * block.scale;
  return block;
}
fn decode_q6_k(row: u32, unit: u32, units: u32) -> Block {
  return unpack_q6_k(load_q6_k(row, unit, units), row, unit, units);
}
