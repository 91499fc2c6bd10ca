// The intervals of a sequence's logits, and what its tokens weigh.
struct Scale {
  peak_key: u32,
  peak: f32,       // the best logit
  per_logit: f32,  // intervals
}
var<workgroup> peak_key: atomic<u32>;
var<workgroup> base_key: atomic<u32>;
var<workgroup> shared_scale: Scale;

// Most logits lie between the best one and the greatest of the slices' least: a few that are far below the others are in one slice
// or another. To be called by all threads.
fn scale_of(thread: u32, sequence: u32) -> Scale {
  for (var slice = thread; slice < kSlices; slice += kWorkgroup) {
    atomicMax(&peak_key, keys_word(sequence, kExtremes + 2u * slice));
    atomicMax(&base_key, keys_word(sequence, kExtremes + 2u * slice + 1u));
  }
  workgroupBarrier();
  if (thread == 0u) {
    let key = atomicLoad(&peak_key);
    let range = key_logit(key) - key_logit(atomicLoad(&base_key));
    shared_scale = Scale(key, key_logit(key), f32(kIntervals) / max(range, 1e-4));
  }
  return workgroupUniformLoad(&shared_scale);
}

// Whether there is anything to draw.
fn usable(scale: Scale) -> bool {
  return scale.peak_key < kUnusable && scale.peak > 0.5 * kBanned;
}

fn interval_of(logit: f32, scale: Scale) -> u32 {
  return u32(min((scale.peak - logit) * scale.per_logit, f32(kIntervals - 1u)));
}

// exp(x) for x <= 0 to about a unit in the last place on any device: Cody and Waite's reduction to |r| <= ln(2) / 2, then a
// polynomial (Cephes' expf). WGSL's exp may be off by 3 + 2 |x| units.
fn exp_negative(x: f32) -> f32 {
  let n = floor(fma(x, 1.44269504, 0.5));
  let r = fma(n, 2.12194440e-4, fma(n, -0.693359375, x));
  var p = 1.9875691500e-4;
  p = fma(p, r, 1.3981999507e-3);
  p = fma(p, r, 8.3334519073e-3);
  p = fma(p, r, 4.1665795894e-2);
  p = fma(p, r, 1.6666665459e-1);
  p = fma(p, r, 5.0000001201e-1);
  p = fma(p * r, r, r) + 1.0;
  return select(0.0, p * bitcast<f32>(u32(max(n, -126.0) + 127.0) << 23u), x > -87.0);
}

// A weight of 0 to 1 as a whole number of 2^-40: low and high word. Exact, but for what is below that.
fn words_of(weight: f32) -> vec2<u32> {
  let high = floor(weight * 256.0);
  return vec2(u32((weight * 256.0 - high) * 4294967296.0), u32(high));
}

// Both weights of a logit: (exp(logit - best), exp((logit - best) / temperature)).
fn weights_of(logit: f32, scale: Scale, inverse_temperature: f32) -> vec4<u32> {
  if (logit <= 0.5 * kBanned) { return vec4(0u); }
  let x = max(logit - scale.peak, -1e8);
  return vec4(words_of(exp_negative(x)), words_of(exp_negative(x * inverse_temperature)));
}

// Whether both are wanted, and differ: else the second one is taken for the first, too.
fn two_weights(draw: Draw) -> bool {
  return draw.top_p <= 1.0 && draw.inverse_temperature != 1.0;
}
