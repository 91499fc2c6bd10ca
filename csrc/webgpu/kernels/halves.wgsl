// Float16 rows as pack_halves.wgsl makes them, written by a kernel that makes the row itself: half = x * s, one power of two s for
// the row's largest |x|. All threads of the workgroup come to each function that has a barrier.
var<workgroup> largest: array<atomic<u32>, kHalfRows>;

fn clear_largest(thread: u32) {
  if (thread < kHalfRows) { atomicStore(&largest[thread], 0u); }
  workgroupBarrier();
}
// Magnitudes are ordered as their bits are; kLargestLanes neighbouring threads, one atomic.
fn note_largest(number: u32, most: f32, thread: u32) {
  let of_neighbours = group_max(most, kLargestLanes);
  if (thread % kLargestLanes == 0u) { atomicMax(&largest[number], bitcast<u32>(of_neighbours)); }
}
fn half_exponent(number: u32) -> u32 {
  return exponent_of(atomicLoad(&largest[number]));
}
// For rows that hold no larger magnitude than that of these bits.
fn exponent_of(magnitude: u32) -> u32 {
  return clamp((magnitude >> 23u) & 255u, 15u, 254u);
}
fn store_half_quad(first: u32, octets: u32, row: u32, quad: u32, exponent: u32, value: vec4<f32>) {
  let scaled = value * bitcast<f32>((268u - exponent) << 23u);
  let at = half_octet(first, octets, row, quad >> 1u);
  let word = 2u * (quad & 1u);
  halves[at][word] = pack2x16float(scaled.xy);
  halves[at][word + 1u] = pack2x16float(scaled.zw);
}
fn store_half_factor(at: u32, exponent: u32) {
  set_act_f32(at, bitcast<f32>((exponent - 14u) << 23u));
}
fn magnitude(x: vec4<f32>) -> f32 {
  let m = abs(x);
  return max(max(m.x, m.y), max(m.z, m.w));
}
