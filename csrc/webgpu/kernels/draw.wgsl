// What the three kernels share that draw a token: draw_sort, draw_rank, draw_pick.
//
// A sequence's kRuns runs of kSlice entries (key, id) lie sorted in entries[0 ...]; behind them, for each entry, the sums of the
// weights of its run up to it, both kinds as float32: exp(logit - best of the run), and the same with the difference over
// the temperature. Then the samples, which are the kStride-th, 2 kStride-th, ... entry of each run: (entries that do not come after
// it in all runs, key), (sums of their two weights, in units of the best token's). places: for each sample and run, how many
// entries of that run do not come after the sample.
@group(0) @binding(1) var<storage, read_write> act: array<u32>;
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> entries: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> draws: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> places: array<u32>;
@group(0) @binding(7) var<storage, read_write> history: array<vec2<u32>>;

const kEntries = kRuns * kSlice;
const kSums = kEntries;
const kRanks = 2u * kEntries;
const kSamples = kEntries / kStride;
const kStrideOfSequence = 2u * kEntries + 2u * kSamples;

// As csrc/webgpu/program_draw.cpp writes it.
struct Draw {
  u: f32,
  top_k: u32,  // 0: no limit
  top_p: f32,  // 2: off
  log_min_p: f32,
  inverse_temperature: f32,
  flags: u32,
  index: u32,  // of the token that is drawn, in the sequence's history
  repeat_last_n: u32,
  presence: f32,
  frequency: f32,
  decay: f32,
  repeat: f32,
}
const kHasMinP = 1u;         // or banned tokens
const kHasOccurrence = 2u;
const kHasRepeat = 4u;
const kAcceptsToken = 8u;    // tokens[sequence] has been drawn since the history was last written

fn draw_of(sequence: u32) -> Draw {
  let a = draws[3u * sequence];
  let b = draws[3u * sequence + 1u];
  let c = bitcast<vec4<f32>>(draws[3u * sequence + 2u]);
  return Draw(bitcast<f32>(a.x), a.y, bitcast<f32>(a.z), bitcast<f32>(a.w), bitcast<f32>(b.x), b.y, b.z, b.w, c.x, c.y, c.z, c.w);
}

const kBanned = -1e30;      // python/rwkvnative/sampling/candidates.py
const kUnusable = 0xff800000u;  // keys of +inf, and here of NaN, are no smaller

// exp(x) for x <= 0 to about a unit in the last place on any device: Cody and Waite's reduction to |r| <= ln(2) / 2, then a
// polynomial (Cephes' expf). WGSL's exp may be off by 3 + 2 |x| units.
fn exp_negative(x: f32) -> f32 {
  let n = floor(x * 1.44269504 + 0.5);
  let r = (x - n * 0.693359375) + n * 2.12194440e-4;
  var p = 1.9875691500e-4;
  p = p * r + 1.3981999507e-3;
  p = p * r + 8.3334519073e-3;
  p = p * r + 4.1665795894e-2;
  p = p * r + 1.6666665459e-1;
  p = p * r + 5.0000001201e-1;
  p = (p * r * r + r) + 1.0;
  return select(0.0, p * bitcast<f32>(u32(max(n, -126.0) + 127.0) << 23u), x > -87.0);
}

// The two weights of a logit, in units of that of `best`.
fn weights_of(logit: f32, best: f32, inverse_temperature: f32) -> vec2<f32> {
  let x = max(logit - best, -1e8);
  return select(vec2(exp_negative(x), exp_negative(x * inverse_temperature)), vec2(0.0), logit <= 0.5 * kBanned);
}
