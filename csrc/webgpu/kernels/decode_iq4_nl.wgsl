// IQ4_NL, y = d codebook[q]. Row: codes 16 B a unit; d 2 B a unit.
fn decode_iq4_nl(row: u32, unit: u32, units: u32) -> Block {
  var block = nibbles(weights[row + unit]);
  block.low = iq4_words(block.low);
  block.high = iq4_words(block.high);
  block.scale = vec2(weight_half(8u * (row + units) + unit));
  return block;
}
