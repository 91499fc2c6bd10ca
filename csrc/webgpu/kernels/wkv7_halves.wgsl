// The float16 rows that wkv7_step.wgsl writes, whose factor (halves.wgsl) must be known before any head of a row is made. It comes from
// a bound: of (normed weight + bias + v s) g, with N = kHeadSize,
//   |normed| <= sqrt(N);  |v| <= max(|v|, |v_first|);  |s| <= N max |r| max |k| (1 + max |k_a|) max |r_k|
//   |g| <= the longest row of g2 sqrt(rank) max |hidden|
// reduce.wgsl has noted the largest |r|, |k| and |v| of each of its workgroups; of the hidden row no value is 2^15 times its factor. The
// bound is some 2^8 to 2^16 times the largest value: of the 2^29 for which float16 is exact, as many are left as its digits need.
// scalars, from kBounds on: sqrt(N) max |weight| + max |bias|; what is constant in |s|; what is constant in |g|.
fn largest_of(first: u32, row: u32) -> f32 {
  var most = 0.0;
  for (var i = 0u; i < kPieces; i++) { most = max(most, act_f32(first + row * kPiecesStride + i)); }
  return most;
}
fn out_exponent(row: u32) -> u32 {
  let v = max(largest_of(kLargestV, row), largest_of(kLargestVFirst, row));
  let bonus = v * largest_of(kLargestR, row) * largest_of(kLargestK, row) * scalars[kBounds + 1u];
  let gate = act_f32(4u * kGateScales + row) * scalars[kBounds + 2u];
  return exponent_of(bitcast<u32>((scalars[kBounds] + bonus) * gate));
}
fn store_out_halves(row: u32, head: u32, exponent: u32, thread: u32) {
  if (thread < kValueQuads) { store_half_quad(kOutHalves, kHalvesStride, row, head * kValueQuads + thread, exponent, head_out[thread]); }
  if (head == 0u && thread == 0u) { store_half_factor(4u * kOutScales + row, exponent); }
}
