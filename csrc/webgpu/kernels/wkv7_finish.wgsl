// What follows the recurrence of RWKV-7's time mix, by rows:
//   out = (groupnorm(y) + v sum(r k r_k)) g, per head
//
// weights: r_k and the group norm [C]. act, [C] a row: y of wkv7_chunk.wgsl, r k v, lora_g = g in; out as float32, int8, float16 or
// several of these.
// One workgroup a row; thread t makes quads t, t + kWorkgroup, ...; all float32.
const kQuadsOfHead = kHeadSize / 4u;

var<workgroup> sums: array<vec2<f32>, kQuads>;   // of y and of r k r_k, then of the squares of y - mean

// The sum over the head that quad `quad` belongs to.
fn head_sum(quad: u32) -> vec2<f32> {
  let head = quad / kQuadsOfHead * kQuadsOfHead;
  var sum = vec2(0.0);
  for (var j = 0u; j < kQuadsOfHead; j++) { sum += sums[head + j]; }
  return sum;
}

fn run(workgroup: vec3<u32>, thread: u32) {
  let row = workgroup.x * kStride;
  var y: array<vec4<f32>, kPerThread>;
  var bonus: array<f32, kPerThread>;
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    if (quad < kQuads) {
      y[i] = act_vec4(kY + row + quad);
      let r_k = act_vec4(kR + row + quad) * weight_vec4(kRK + quad);
      sums[quad] = vec2(dot(y[i], vec4(1.0)), dot(r_k, act_vec4(kK + row + quad)));
    }
  }
  workgroupBarrier();
  for (var i = 0u; i < kPerThread; i++) {
    let quad = min(thread + i * kWorkgroup, kQuads - 1u);
    let sum = head_sum(quad);
    y[i] -= sum.x / f32(kHeadSize);
    bonus[i] = sum.y;
  }
  workgroupBarrier();
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    if (quad < kQuads) { sums[quad] = vec2(dot(y[i], y[i]), 0.0); }
  }
  workgroupBarrier();
  var most = 0.0;
  for (var i = 0u; i < kPerThread; i++) {
    let quad = min(thread + i * kWorkgroup, kQuads - 1u);
    let scale = inverseSqrt(head_sum(quad).x / f32(kHeadSize) + kEpsilon);
    let normed = y[i] * scale * weight_vec4(kNormWeight + quad) + weight_vec4(kNormBias + quad);
    y[i] = (normed + act_vec4(kV + row + quad) * bonus[i]) * act_vec4(kLoraG + row + quad);
    most = max(most, magnitude(y[i]));
  }
  var exponent = 0u;
  if (kHasHalves) {
    clear_largest(thread);
    note_largest(0u, most, thread);
    workgroupBarrier();
    exponent = half_exponent(0u);
    if (thread == 0u) { store_half_factor(4u * kOutScales + workgroup.x, exponent); }
  }
  for (var i = 0u; i < kPerThread; i++) {
    let wanted = thread + i * kWorkgroup;
    let exists = wanted < kQuads;
    let quad = min(wanted, kQuads - 1u);
    let value = y[i];
    if (exists && kHasHalves) { store_half_quad(kOutHalves, kHalvesStride, workgroup.x, quad, exponent, value); }
    if (exists && kHasValues) { act[kOut + row + quad] = bitcast<vec4<u32>>(value); }
    if (kHasCodes) {
      let quantized = quantize_quad(select(vec4(0.0), value, exists));
      if (exists) { store_quad(kOutCodes + row / 4u, kOutHeads + row / 8u, kStride / 8u, quad, quantized); }
    }
  }
}
