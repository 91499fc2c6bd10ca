// Adds the tokens of a sequence (workgroup.y) to the sums of their intervals; each thread has two, whose additions are under way at once.
@group(0) @binding(6) var<storage, read_write> sums: array<atomic<u32>>;

struct Entry {
  interval: u32,
  weights: vec4<u32>,
}

fn entry_of(id: u32, key: u32, scale: Scale, draw: Draw) -> Entry {
  if (id >= kVocabulary) { return Entry(0xffffu, vec4(0u)); }
  let logit = key_logit(key);
  return Entry(interval_of(logit, scale), weights_of(logit, scale, draw.inverse_temperature));
}

// What is in the last interval is not counted: very many tokens may be there, banned for instance, and their number follows from the others'.
fn count(at: u32, entry: Entry) {
  if (entry.interval < kIntervals - 1u) { atomicAdd(&sums[at + entry.interval], 1u); }
}
// Adds a low word, and returns what is to be added to the high one: with the carry.
fn add_low(at: u32, words: vec2<u32>) -> u32 {
  if (words.x == 0u) { return words.y; }
  return words.y + select(0u, 1u, atomicAdd(&sums[at], words.x) > ~words.x);
}
fn add_high(at: u32, high: u32) {
  if (high != 0u) { atomicAdd(&sums[at + kIntervals], high); }
}

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let sequence = workgroup.y;
  let pair = min(workgroup.x * kWorkgroup + thread, kPadded / 2u - 1u);
  let key_a = keys_word(sequence, 2u * pair);
  let key_b = keys_word(sequence, 2u * pair + 1u);
  let draw = draw_of(sequence);
  let scale = scale_of(thread, sequence);
  if (usable(scale) && workgroup.x * kWorkgroup + thread < kPadded / 2u) {
    let a = entry_of(2u * pair, key_a, scale, draw);
    let b = entry_of(2u * pair + 1u, key_b, scale, draw);
    set_keys_word(sequence, kPadded + pair, a.interval | (b.interval << 16u));
    let at = sequence * kSumsOfSequence;
    count(at, a);
    count(at, b);
    let tempered = at + kTempered;
    let high_a = add_low(tempered + a.interval, a.weights.zw);
    let high_b = add_low(tempered + b.interval, b.weights.zw);
    add_high(tempered + a.interval, high_a);
    add_high(tempered + b.interval, high_b);
    if (two_weights(draw)) {
      let plain = at + kWeights;
      add_high(plain + a.interval, add_low(plain + a.interval, a.weights.xy));
      add_high(plain + b.interval, add_low(plain + b.interval, b.weights.xy));
    }
  }
}
