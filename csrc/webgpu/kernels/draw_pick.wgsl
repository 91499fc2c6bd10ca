// From the sorted runs and the ranks of the samples to a token of the sequence workgroup.y.
//
// Every filter keeps the first of all entries in the order of falling logit and rising id, up to one where a running number reaches
// a bound: their count (top_k), their weight (top_p), their logit (min_p). So does the draw: it takes the first where the
// weight, tempered, exceeds u times that of all that were kept. The samples say between which two neighbours that one is;
// what lies between them, no more than kSlice entries, is collected from all runs and sorted, and the sums go on from the lower
// neighbour's.
const kTopK = 0u;
const kTopP = 1u;
const kMinP = 2u;
const kDraw = 3u;
const kNone = 0xffffffffu;

// Of the entries up to and with one of them: their number, and both weights.
struct Sums {
  count: u32,
  weights: vec2<f32>,
}
struct Found {
  id: u32,
  at: Sums,      // up to and with it
  before: Sums,  // without it
}

var<workgroup> begins: array<u32, kRuns>;   // of what is collected of a run
var<workgroup> offsets: array<u32, kRuns + 1u>;  // where that goes
var<workgroup> peak_key: atomic<u32>;
var<workgroup> first_reached: atomic<u32>;
var<workgroup> shared_found: Found;
var<workgroup> neighbours: vec4<u32>;  // count and sample of the lower one, of the upper one
var<workgroup> whole: Sums;

// Whether an entry with these sums is past the end of what `kind` keeps, or is the last of it.
fn reached(kind: u32, sums: Sums, key: u32, bound: f32, most: u32, peak: f32) -> bool {
  if (kind == kMinP) { return key_logit(key) - peak < bound || key_logit(key) <= 0.5 * kBanned || sums.count > most; }
  if (sums.count >= most) { return true; }
  if (kind == kTopP) { return sums.weights.x >= bound; }
  return kind == kDraw && sums.weights.y > bound;
}

fn sample_sums(first: u32, sample: u32) -> Sums {
  let at = first + kRanks + 2u * sample;
  return Sums(entries[at].x, bitcast<vec2<f32>>(entries[at + 1u]));
}

fn weights_at(at: u32, peak: f32, inverse_temperature: f32) -> vec2<f32> {
  if (sorted[at].x == 0u) { return vec2(0.0); }
  return weights_of(key_logit(sorted[at].x), peak, inverse_temperature);
}

// The first entry that has reached `bound`, or is the most-th. To be called by all threads.
fn find(thread: u32, sequence: u32, kind: u32, bound: f32, most: u32, peak: f32, inverse_temperature: f32) -> Found {
  let first = sequence * kStrideOfSequence;
  var low = vec2(0u, kNone);
  var high = vec2(kNone, kNone);
  for (var sample = thread; sample < kSamples; sample += kWorkgroup) {
    let sums = sample_sums(first, sample);
    if (reached(kind, sums, entries[first + kRanks + 2u * sample].y, bound, most, peak)) {
      if (sums.count < high.x) { high = vec2(sums.count, sample); }
    } else if (sums.count > low.x) {
      low = vec2(sums.count, sample);
    }
  }
  sorted[thread] = low;
  sorted[kWorkgroup + thread] = high;
  workgroupBarrier();
  for (var step = kWorkgroup / 2u; step > 0u; step /= 2u) {
    if (thread < step) {
      if (sorted[thread + step].x > sorted[thread].x) { sorted[thread] = sorted[thread + step]; }
      let a = kWorkgroup + thread;
      if (sorted[a + step].x < sorted[a].x) { sorted[a] = sorted[a + step]; }
    }
    workgroupBarrier();
  }
  if (thread == 0u) { neighbours = vec4(sorted[0], sorted[kWorkgroup]); }
  let found = workgroupUniformLoad(&neighbours);

  // What lies between: runs in order, and each one's part.
  for (var run = thread; run < kRuns; run += kWorkgroup) {
    let row = sequence * kSamples * kRuns + run;
    var begin = 0u;
    if (found.y != kNone) { begin = places[row + found.y * kRuns]; }
    var end = kSlice;
    if (found.w != kNone) { end = places[row + found.w * kRuns]; }
    begins[run] = begin;
    offsets[run + 1u] = end - begin;
  }
  if (thread == 0u) {
    offsets[0] = 0u;
    atomicStore(&first_reached, kNone);
  }
  workgroupBarrier();
  for (var step = 1u; step <= kRuns; step *= 2u) {  // kRuns < kWorkgroup
    var sum = 0u;
    if (thread <= kRuns) {
      sum = offsets[thread];
      if (thread >= step) { sum += offsets[thread - step]; }
    }
    workgroupBarrier();
    if (thread <= kRuns) { offsets[thread] = sum; }
    workgroupBarrier();
  }
  let n = min(workgroupUniformLoad(&offsets[kRuns]), kSlice);
  var count = 8u;  // a power of two
  while (count < n) { count *= 2u; }
  for (var i = thread; i < count; i += kWorkgroup) {
    var entry = kNothing;
    if (i < n) {
      var run = 0u;
      for (var step = kRunsPowerOfTwo / 2u; step > 0u; step /= 2u) {
        if (run + step < kRuns && offsets[run + step] <= i) { run += step; }
      }
      entry = entries[first + run * kSlice + begins[run] + i - offsets[run]];
    }
    sorted[i] = entry;
  }
  workgroupBarrier();
  sort(thread, count);

  var start = Sums(0u, vec2(0.0));
  if (found.y != kNone) { start = sample_sums(first, found.y); }
  let each = max(count / kWorkgroup, 1u);
  let end = min((thread + 1u) * each, n);
  var mine = vec2(0.0);
  for (var at = thread * each; at < end; at++) { mine += weights_at(at, peak, inverse_temperature); }
  let before = start.weights + sums_before(thread, mine);
  var sum = before;
  for (var at = thread * each; at < end; at++) {
    sum += weights_at(at, peak, inverse_temperature);
    if (reached(kind, Sums(start.count + at + 1u, sum), sorted[at].x, bound, most, peak)) {
      atomicMin(&first_reached, at);
      break;
    }
  }
  workgroupBarrier();
  if (n == 0u && thread == 0u) { shared_found = Found(kNone, start, start); }  // no entry has reached it
  let index = min(atomicLoad(&first_reached), n - 1u);        // the upper neighbour itself, where rounding hides it
  if (n != 0u && index / each == thread) {
    sum = before;
    for (var at = thread * each; at < index; at++) { sum += weights_at(at, peak, inverse_temperature); }
    let with_it = Sums(start.count + index + 1u, sum + weights_at(index, peak, inverse_temperature));
    shared_found = Found(sorted[index].y, with_it, Sums(start.count + index, sum));
  }
  return workgroupUniformLoad(&shared_found);
}

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let sequence = workgroup.y;
  let draw = draw_of(sequence);
  let first = sequence * kStrideOfSequence;
  for (var run = thread; run < kRuns; run += kWorkgroup) { atomicMax(&peak_key, entries[first + run * kSlice].x); }
  for (var sample = thread; sample < kSamples; sample += kWorkgroup) {  // that of the last entry of all
    let sums = sample_sums(first, sample);
    if (sums.count == kEntries) { whole = sums; }
  }
  workgroupBarrier();
  let key = atomicLoad(&peak_key);
  let peak = key_logit(key);
  var kept = workgroupUniformLoad(&whole);
  kept.count = min(kept.count, kVocabulary);
  var token = kNone;
  for (var kind = kTopK; kind <= kDraw; kind++) {
    var most = kept.count;
    var bound = 0.0;
    if (kind == kTopK) {
      if (draw.top_k == 0u || draw.top_k >= kVocabulary) { continue; }
      most = draw.top_k;
    } else if (kind == kTopP) {
      if (draw.top_p > 1.0) { continue; }
      bound = draw.top_p * kept.weights.x;
    } else if (kind == kMinP) {
      if ((draw.flags & kHasMinP) == 0u) { continue; }
      bound = draw.log_min_p;
    } else {
      bound = draw.u * kept.weights.y;
    }
    let found = find(thread, sequence, kind, bound, most, peak, draw.inverse_temperature);
    if (kind == kMinP) {
      kept = found.before;
    } else {
      kept = found.at;
    }
    token = found.id;
  }
  if (thread == 0u) { tokens[sequence] = select(token, kNone, key >= kUnusable || peak <= 0.5 * kBanned); }
}
