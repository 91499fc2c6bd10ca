// Q3_K, y = d (s - 32) (q - 4), s per 16 values. Row: low two bits 8 B a unit; third bits 4 B a unit; twelve scale bytes per
// 256 values (block_q3_k in core/quant_blocks.h); d 2 B per 256 values.
fn load_q3_k(row: u32, unit: u32, units: u32) -> Packed {
  let scales = 3u * units + 3u * (unit >> 3u);
  return Packed(vec4(row_word(row, 2u * unit), row_word(row, 2u * unit + 1u), row_word(row, 2u * units + unit), 0u),
                vec4(0u),
                vec4(row_word(row, scales), row_word(row, scales + 1u), row_word(row, scales + 2u),
                     row_half_word(row, 6u * units + 6u * (units >> 3u) + (unit >> 3u))));
}
fn unpack_q3_k(packed: Packed, row: u32, unit: u32, units: u32) -> Block {
  let bits = fifth_bits(packed.codes.z);
  let low = two_bits(packed.codes.x) | (bits[0] >> vec4(2u));
  let high = two_bits(packed.codes.y) | (bits[1] >> vec4(2u));
  var s: vec2<f32>;
  for (var half = 0u; half < 2u; half++) {
    let j = 2u * (unit & 7u) + half;
    let low_bits = (select(packed.words.x, packed.words.y, (j & 4u) != 0u) >> (8u * (j & 3u) + 4u * (j >> 3u))) & 15u;
    let high_bits = (packed.words.z >> (8u * (j & 3u) + 2u * (j >> 2u))) & 3u;
    s[half] = f32(low_bits | (high_bits << 4u)) - 32.0;
  }
  let d = half_of(packed.words.w, 6u * (units >> 3u) + (unit >> 3u));
  return Block(low, high, d * s, -4.0 * d * s);
}
fn decode_q3_k(row: u32, unit: u32, units: u32) -> Block {
  return unpack_q3_k(load_q3_k(row, unit, units), row, unit, units);
}
