// Q2_K, y = d s q - dmin m, s and m per 16 values. Row: codes 8 B a unit; (s | m << 4) 2 B a unit; (d, dmin) 4 B per 256 values.
fn decode_q2_k(row: u32, unit: u32, units: u32) -> Block {
  let plane = 4u * row;
  let low = two_bits(weight_word(plane + 2u * unit));
  let high = two_bits(weight_word(plane + 2u * unit + 1u));
  let scales = 2u * plane + 4u * units + unit;  // in halves
  let pair = weight_word(scales >> 1u) >> (16u * (scales & 1u));
  // units is a multiple of 8: the scale plane is a whole number of words
  let d = unpack2x16float(weight_word(plane + 2u * units + (units >> 1u) + (unit >> 3u)));
  return Block(low, high, d.x * vec2(f32(pair & 15u), f32((pair >> 8u) & 15u)),
               -d.y * vec2(f32((pair >> 4u) & 15u), f32((pair >> 12u) & 15u)));
}
