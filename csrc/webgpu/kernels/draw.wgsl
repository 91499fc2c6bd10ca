// What the three kernels share that draw a token: draw_keys, draw_sums, draw_pick.
//
// Each filter, and then the draw, takes tokens by falling logit and rising id up to one where a sum of weights, or their number, reaches
// a bound. To find that one without sorting all of them, the range of the logits is cut into kIntervals of one width, the best logit
// at the beginning of the first, and the last without an end. Tokens and weights of each interval are added up; those of one interval
// alone are then put in order. Weights are added as whole numbers of 2^-40 times the best token's weight, in two words: such
// sums depend neither on an order nor on where intervals end.
//
// keys, for each sequence: keys of the logits [kPadded]; then the interval of each, two in a word [kPadded / 2]; then of each slice of
// kSlice logits the greatest key, and the least of what is not banned, or 0 [kSlices][2].
// sums (binding 6), for each sequence: tokens of each interval but the last [kIntervals]; low and high words of their weights
// exp(logit - best) [2][kIntervals], and of exp((logit - best) / temperature) [2][kIntervals].
@group(0) @binding(1) var<storage, read_write> act: array<u32>;
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> keys: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> draws: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read_write> history: array<vec2<u32>>;

const kExtremes = kPadded + kPadded / 2u;
const kKeysOfSequence = kExtremes + (2u * kSlices + 3u) / 4u * 4u;
const kWeights = kIntervals;
const kTempered = 3u * kIntervals;
const kSumsOfSequence = 5u * kIntervals;

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
const kUnusable = kInfinity;  // keys of +inf, and here of NaN, are no smaller

// Word `at` of a sequence's keys.
fn keys_word(sequence: u32, at: u32) -> u32 {
  let word = sequence * kKeysOfSequence + at;
  return keys[word >> 2u][word & 3u];
}
fn set_keys_word(sequence: u32, at: u32, value: u32) {
  let word = sequence * kKeysOfSequence + at;
  keys[word >> 2u][word & 3u] = value;
}
