// Keys that order logits as unsigned numbers: a larger logit has a larger key; NaN comes last of all numbers.
// An entry is (key, id); entries are ordered by falling key, then by rising id. kNothing comes after every logit.
const kNothing = vec2<u32>(0u, 0xffffffffu);
const kMinusInfinity = 0x007fffffu;  // the keys of these logits; NaN's is lower
const kInfinity = 0xff800000u;

fn logit_key(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 1u; }
  return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}
fn key_logit(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key & 0x7fffffffu, (key & 0x80000000u) != 0u));
}
fn comes_first(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.x > b.x || (a.x == b.x && a.y < b.y);
}
