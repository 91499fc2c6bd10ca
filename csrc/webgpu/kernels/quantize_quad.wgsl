// Eight neighbouring threads quantize a block of 32 values: d = max |x| / 127, code = round(x / d).
struct QuantizedQuad {
  codes: u32,
  head: vec4<f32>,
}
fn quantize_quad(values: vec4<f32>) -> QuantizedQuad {
  let magnitudes = abs(values);
  let most = group_max(max(max(magnitudes.x, magnitudes.y), max(magnitudes.z, magnitudes.w)), 8u);
  let d = most / 127.0;
  let inverse = select(0.0, 127.0 / most, most > 1e-30);
  let codes = vec4<i32>(round(values * inverse));
  let half_sum = group_sum(f32(codes.x + codes.y + codes.z + codes.w), 4u);
  let sum = group_sum(half_sum, 8u) * 0.25;  // each half was counted by its four threads
  return QuantizedQuad(pack4xI8(codes), d * vec4(1.0, half_sum, sum - half_sum, sum));
}
// Stores what quantize_quad() gave for quad `quad` of a row of `units` units whose codes and heads start at those vec4s. The
// first thread of a block writes its head (its half_sum is that of the first half).
fn store_quad(codes: u32, heads: u32, units: u32, quad: u32, q: QuantizedQuad) {
  let unit = quad >> 3u;
  act[codes + ((quad >> 2u) & 1u) * units + unit][quad & 3u] = q.codes;
  if ((quad & 7u) == 0u) { act[heads + unit] = bitcast<vec4<u32>>(q.head); }
}
