// The packed weights of one dispatch (layout: csrc/core/pack.h). A quantized row is a record of planes: the codes of its
// units (32 consecutive values) first, then scales; `row` is the index of its first vec4, `units` the number of its units. How
// rows lie to each other, and thus where the others of its vec4s are, is the business of layout_*.wgsl.
@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;

// 32 values y = scale * code + offset; scale and offset of values 0..15 and of values 16..31.
// Codes are signed bytes, four to a word, in order: `low` holds values 0..15, `high` values 16..31.
struct Block {
  low: vec4<u32>,
  high: vec4<u32>,
  scale: vec2<f32>,
  offset: vec2<f32>,
}

// A unit as it lies in memory: loads apart from arithmetic, so that a kernel can have many under way. What is where is the
// type's business (decode_<type>.wgsl); what a type does not use costs no register.
struct Packed {
  codes: vec4<u32>,
  more_codes: vec4<u32>,
  words: vec4<u32>,
}

fn packed_unit(codes: vec4<u32>, x: u32, y: u32, z: u32) -> Packed {
  return Packed(codes, vec4(0u), vec4(x, y, z, 0u));
}

// Words and quads of what lies in the weights as it is in the file: vectors.
fn weight_word(index: u32) -> u32 {
  return weights[index >> 2u][index & 3u];
}
fn weight_vec4(at: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(weights[at]);
}

// The word of a float16, by the number of the half in its row, and which of its halves.
fn row_half_word(row: u32, index: u32) -> u32 {
  return row_word(row, index >> 1u);
}
fn half_of(word: u32, index: u32) -> f32 {
  let pair = unpack2x16float(word);
  return select(pair.x, pair.y, (index & 1u) == 1u);
}

fn nibbles(codes: vec4<u32>) -> Block {
  return Block(codes & vec4(0x0f0f0f0fu), (codes >> vec4(4u)) & vec4(0x0f0f0f0fu), vec2(0.0), vec2(0.0));
}

// The bit planes store the bit of value 4 q + b of a unit (q = 0..7, b = 0..3) at bit 8 b + q: quad q, in place for bit 4.
fn fifth_bits(plane: u32) -> array<vec4<u32>, 2> {
  return array(((vec4(plane) << vec4(4u, 3u, 2u, 1u)) & vec4(0x10101010u)),
               ((vec4(plane) >> vec4(0u, 1u, 2u, 3u)) & vec4(0x10101010u)));
}

// Two-bit planes: quad q = 4 w + p of a unit is bits 2p, 2p + 1 of each byte of word w.
fn two_bits(word: u32) -> vec4<u32> {
  return (vec4(word) >> vec4(0u, 2u, 4u, 6u)) & vec4(0x03030303u);
}

// The codebook of IQ4_NL and IQ4_XS for four codes at once (kIq4Codebook in core/quant_blocks.h).
const kIq4Words = array<u32, 4>(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
fn iq4_level(code: u32) -> u32 {
  return (kIq4Words[code >> 2u] >> (8u * (code & 3u))) & 255u;
}
fn iq4_word(codes: u32) -> u32 {
  return iq4_level(codes & 15u) | (iq4_level((codes >> 8u) & 15u) << 8u) | (iq4_level((codes >> 16u) & 15u) << 16u) |
         (iq4_level(codes >> 24u) << 24u);
}
fn iq4_words(codes: vec4<u32>) -> vec4<u32> {
  return vec4(iq4_word(codes.x), iq4_word(codes.y), iq4_word(codes.z), iq4_word(codes.w));
}
