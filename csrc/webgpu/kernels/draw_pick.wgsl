// From the sums of the intervals to a token of the sequence workgroup.y.
//
// Every filter keeps the first of all tokens in the order of falling logit and rising id, up to one where a running number reaches
// a bound: their count (top_k), their weight (top_p), their logit (min_p). So does the draw: it takes the first where the
// weight, tempered, exceeds u times that of all that were kept. The sums say in which interval that one is. Its tokens, if no more than
// kMost, are collected, and each adds up those before it; if more, all are divided again, by their keys and then by their ids.
@group(0) @binding(6) var<storage, read_write> sums: array<vec4<u32>>;

const kTopK = 0u;
const kTopP = 1u;
const kMinP = 2u;
const kDraw = 3u;
const kNone = 0xffffffffu;

const kEach = 4u;                   // intervals of a thread
const kShare = kWorkgroup / kMost;  // threads for a collected token
const kAtOnce = 8u;                 // loads under way, of the intervals of eight tokens each

// Of the tokens up to and with one of them: their number, and both weights (low and high words).
struct Sums {
  count: u32,
  plain: vec2<u32>,
  tempered: vec2<u32>,
}
struct Found {
  id: u32,
  at: Sums,      // up to and with it
  before: Sums,  // without it
}
// What a filter looks for.
struct Bound {
  kind: u32,
  most: u32,
  value: f32,
}
// Some of the tokens of an interval: those whose keys' complement and whose id are within bounds, both included.
struct Window {
  interval: u32,
  places: vec2<u32>,
  ids: vec2<u32>,
  before: Sums,  // of all tokens before them
  count: u32,
}

var<workgroup> scanned: array<Sums, kWorkgroup>;
var<workgroup> bins: array<atomic<u32>, 5u * kWorkgroup>;
var<workgroup> collected: array<vec2<u32>, kMost>;  // keys and ids
var<workgroup> weights: array<vec4<u32>, kMost>;
var<workgroup> n_collected: atomic<u32>;
var<workgroup> first_reached: atomic<u32>;
var<workgroup> shared_index: u32;
var<workgroup> shared_window: Window;
var<workgroup> shared_found: Found;

fn sum64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.x + b.x;
  return vec2(low, a.y + b.y + select(0u, 1u, low < b.x));
}
fn sum_of(a: Sums, b: Sums) -> Sums {
  return Sums(a.count + b.count, sum64(a.plain, b.plain), sum64(a.tempered, b.tempered));
}
fn without(a: Sums, b: Sums) -> Sums {
  return Sums(a.count - b.count, vec2(a.plain.x - b.plain.x, a.plain.y - b.plain.y - select(0u, 1u, a.plain.x < b.plain.x)),
              vec2(a.tempered.x - b.tempered.x, a.tempered.y - b.tempered.y - select(0u, 1u, a.tempered.x < b.tempered.x)));
}
fn number(words: vec2<u32>) -> f32 {
  return f32(words.y) * 4294967296.0 + f32(words.x);
}

// Sums over the threads before this one. To be called by all threads.
fn sums_before(thread: u32, mine: Sums) -> Sums {
  scanned[thread] = mine;
  workgroupBarrier();
  for (var step = 1u; step < kWorkgroup; step *= 2u) {
    var sum = scanned[thread];
    if (thread >= step) { sum = sum_of(scanned[thread - step], sum); }
    workgroupBarrier();
    scanned[thread] = sum;
    workgroupBarrier();
  }
  var before = Sums();
  if (thread > 0u) { before = scanned[thread - 1u]; }
  return before;
}

// Whether a token with these sums is past the end of what the filter keeps, or is the last of it. kMinP looks at its logit instead.
fn reached(bound: Bound, sums: Sums) -> bool {
  if (bound.kind == kMinP) { return sums.count > bound.most; }
  if (sums.count >= bound.most) { return true; }
  if (bound.kind == kTopP) { return number(sums.plain) >= bound.value; }
  return bound.kind == kDraw && number(sums.tempered) > bound.value;
}
fn below(bound: Bound, logit: f32, scale: Scale) -> bool {
  return bound.kind == kMinP && (logit - scale.peak < bound.value || logit <= 0.5 * kBanned);
}

// The least of the numbers that threads gave to atomicMin(&first_reached) since the last call. To be called by all threads.
fn first_of_all(thread: u32) -> u32 {
  workgroupBarrier();
  if (thread == 0u) {
    shared_index = atomicLoad(&first_reached);
    atomicStore(&first_reached, kNone);
  }
  return workgroupUniformLoad(&shared_index);
}

// What to do with a token that is in a window: into which of the bins it goes, or to collect it.
struct Visit {
  collect: bool,
  by_id: bool,
  shift: u32,  // of a bin's width
}

fn add(bin: u32, words: vec2<u32>) {
  if (atomicAdd(&bins[bin], words.x) > ~words.x) { atomicAdd(&bins[bin + kWorkgroup], 1u); }
  atomicAdd(&bins[bin + kWorkgroup], words.y);
}

fn visit_token(sequence: u32, id: u32, window: Window, visit: Visit, scale: Scale, draw: Draw) {
  let key = keys_word(sequence, id);
  if (~key < window.places.x || ~key > window.places.y || id < window.ids.x || id > window.ids.y) { return; }
  let both = weights_of(key_logit(key), scale, draw.inverse_temperature);
  if (visit.collect) {
    let i = atomicAdd(&n_collected, 1u);
    if (i < kMost) {
      collected[i] = vec2(key, id);
      weights[i] = both;
    }
  } else {
    let bin = min(select(~key - window.places.x, id - window.ids.x, visit.by_id) >> visit.shift, kWorkgroup - 1u);
    atomicAdd(&bins[bin], 1u);
    add(bin + kWorkgroup, both.xy);
    add(bin + 3u * kWorkgroup, both.zw);
  }
}

fn visit_all(thread: u32, sequence: u32, window: Window, visit: Visit, scale: Scale, draw: Draw) {
  let first = (sequence * kKeysOfSequence + kPadded) / 4u;
  for (var begin = thread; begin < kPadded / 8u; begin += kAtOnce * kWorkgroup) {
    var intervals: array<vec4<u32>, kAtOnce>;
    for (var i = 0u; i < kAtOnce; i++) { intervals[i] = keys[first + min(begin + i * kWorkgroup, kPadded / 8u - 1u)]; }
    var members = vec2(0u);  // a bit for each token
    for (var i = 0u; i < kAtOnce; i++) {
      let low = intervals[i] & vec4(0xffffu);
      let high = intervals[i] >> vec4(16u);
      let wanted = vec4(window.interval);
      let bits = select(vec4(0u), vec4(1u, 4u, 16u, 64u), low == wanted) | select(vec4(0u), vec4(2u, 8u, 32u, 128u), high == wanted);
      let eight = select(0u, bits.x | bits.y | bits.z | bits.w, begin + i * kWorkgroup < kPadded / 8u);
      members[i / 4u] |= eight << (8u * (i % 4u));
    }
    while ((members.x | members.y) != 0u) {
      let word = select(0u, 1u, members.x == 0u);
      let bit = firstTrailingBit(members[word]);
      members[word] &= members[word] - 1u;
      let i = 4u * word + bit / 8u;
      visit_token(sequence, 8u * (begin + i * kWorkgroup) + bit % 8u, window, visit, scale, draw);
    }
  }
  workgroupBarrier();
}

// The part of a window where the bound is reached.
fn part_of(thread: u32, sequence: u32, window: Window, bound: Bound, scale: Scale, draw: Draw) -> Window {
  let by_id = window.places.x == window.places.y;
  let span = select(window.places.y - window.places.x, window.ids.y - window.ids.x, by_id);
  var shift = 0u;
  while ((span >> shift) >= kWorkgroup) { shift++; }
  for (var i = 0u; i < 5u; i++) { atomicStore(&bins[i * kWorkgroup + thread], 0u); }
  workgroupBarrier();
  visit_all(thread, sequence, window, Visit(false, by_id, shift), scale, draw);
  let mine = Sums(atomicLoad(&bins[thread]), vec2(atomicLoad(&bins[kWorkgroup + thread]), atomicLoad(&bins[2u * kWorkgroup + thread])),
                  vec2(atomicLoad(&bins[3u * kWorkgroup + thread]), atomicLoad(&bins[4u * kWorkgroup + thread])));
  let before = sum_of(window.before, sums_before(thread, mine));
  var part = window;
  part.before = before;
  part.count = mine.count;
  if (by_id) {
    part.ids.x += thread << shift;
    part.ids.y = min(part.ids.y, part.ids.x + (1u << shift) - 1u);
  } else {
    part.places.x += thread << shift;
    part.places.y = min(part.places.y, part.places.x + (1u << shift) - 1u);
  }
  // Of min_p the last token decides, which is no better than the part's end.
  if (mine.count != 0u && (reached(bound, sum_of(before, mine)) || below(bound, key_logit(~part.places.y), scale)))
    { atomicMin(&first_reached, thread); }
  let first = min(first_of_all(thread), kWorkgroup - 1u);
  if (thread == first) { shared_window = part; }
  return workgroupUniformLoad(&shared_window);
}

// The first token of a window that has reached the bound. If none has, which is only so for min_p, or for sums that were rounded: the
// last one, which min_p keeps.
fn found_in(thread: u32, sequence: u32, window: Window, bound: Bound, scale: Scale, draw: Draw) -> Found {
  if (thread == 0u) { atomicStore(&n_collected, 0u); }
  workgroupBarrier();
  visit_all(thread, sequence, window, Visit(true, false, 0u), scale, draw);
  let n = min(atomicLoad(&n_collected), kMost);
  let mine = thread % kMost;
  var sums = Sums();  // of what is not behind it, by kShare threads
  for (var i = thread / kMost; i < n; i += kShare) {
    if (!comes_first(collected[mine], collected[i])) { sums = sum_of(sums, Sums(1u, weights[i].xy, weights[i].zw)); }
  }
  scanned[thread] = sums;
  workgroupBarrier();
  var at = window.before;
  for (var share = 0u; share < kShare; share++) { at = sum_of(at, scanned[mine + share * kMost]); }
  let key = collected[mine].x;
  let has_reached = reached(bound, at) || below(bound, key_logit(key), scale);
  if (thread < n && has_reached) { atomicMin(&first_reached, at.count); }
  let first = first_of_all(thread);
  if (thread < n && at.count == min(first, window.before.count + n)) {
    let own = Sums(1u, weights[mine].xy, weights[mine].zw);
    shared_found = Found(collected[mine].y, at, without(at, own));
    if (bound.kind == kMinP && first == kNone) { shared_found.before = at; }
  }
  return workgroupUniformLoad(&shared_found);
}

// A thread's intervals, kEach neighbours.
struct Intervals {
  before: Sums,
  own: array<Sums, kEach>,
}

fn load_intervals(thread: u32, sequence: u32, plain: bool) -> Intervals {
  let at = sequence * kSumsOfSequence / 4u + thread;
  let counts = sums[at];
  let low = sums[at + kTempered / 4u];
  let high = sums[at + (kTempered + kIntervals) / 4u];
  var plain_low = low;
  var plain_high = high;
  if (plain) {
    plain_low = sums[at + kWeights / 4u];
    plain_high = sums[at + (kWeights + kIntervals) / 4u];
  }
  var intervals: Intervals;
  var mine = Sums();
  for (var i = 0u; i < kEach; i++) {
    intervals.own[i] = Sums(counts[i], vec2(plain_low[i], plain_high[i]), vec2(low[i], high[i]));
    mine = sum_of(mine, intervals.own[i]);
  }
  intervals.before = sums_before(thread, mine);
  // What is not counted in the last one.
  if (thread == kWorkgroup - 1u) { intervals.own[kEach - 1u].count = kVocabulary - intervals.before.count - mine.count; }
  return intervals;
}

// The interval where the bound is reached; none, behind all tokens, if min_p keeps all.
fn window_of(thread: u32, intervals: Intervals, bound: Bound, scale: Scale) -> Window {
  // That of the least logit that min_p may keep: no token before it is below, and every one behind it is.
  let least = u32(min(min(-bound.value, 2e30) * scale.per_logit, f32(kIntervals - 1u)));
  var window = Window();
  var before = intervals.before;
  for (var i = 0u; i < kEach; i++) {
    let interval = thread * kEach + i;
    let at = sum_of(before, intervals.own[i]);
    if (intervals.own[i].count != 0u && window.count == 0u && (reached(bound, at) || (bound.kind == kMinP && interval >= least))) {
      // Rounding moves a logit by much less than an interval.
      let best = min(scale.peak - (f32(interval) - 1.0) / scale.per_logit, scale.peak);
      let worst = select(scale.peak - (f32(interval) + 2.0) / scale.per_logit, kBanned, interval == kIntervals - 1u);
      let places = vec2(~logit_key(bitcast<u32>(best)), ~logit_key(bitcast<u32>(worst)));
      window = Window(interval, places, vec2(0u, kVocabulary - 1u), before, intervals.own[i].count);
      atomicMin(&first_reached, interval);
    }
    before = at;
  }
  if (window.count == 0u) { window.before = before; }
  let first = min(first_of_all(thread), kIntervals - 1u);
  if (thread == first / kEach) { shared_window = window; }
  return workgroupUniformLoad(&shared_window);
}

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let sequence = workgroup.y;
  let draw = draw_of(sequence);
  if (thread == 0u) { atomicStore(&first_reached, kNone); }
  let scale = scale_of(thread, sequence);
  var token = kNone;
  if (usable(scale)) {
    let intervals = load_intervals(thread, sequence, two_weights(draw));
    var kept = workgroupUniformLoad(&scanned[kWorkgroup - 1u]);
    kept.count = kVocabulary;
    for (var kind = kTopK; kind <= kDraw; kind++) {
      var bound = Bound(kind, kept.count, 0.0);
      if (kind == kTopK) {
        if (draw.top_k == 0u || draw.top_k >= kVocabulary) { continue; }
        bound.most = draw.top_k;
      } else if (kind == kTopP) {
        if (draw.top_p > 1.0) { continue; }
        bound.value = draw.top_p * number(kept.plain);
      } else if (kind == kMinP) {
        if ((draw.flags & kHasMinP) == 0u) { continue; }
        bound.value = draw.log_min_p;
      } else {
        bound.value = draw.u * number(kept.tempered);
      }
      var window = window_of(thread, intervals, bound, scale);
      while (window.count > kMost) { window = part_of(thread, sequence, window, bound, scale, draw); }
      if (window.count == 0u) {  // min_p keeps all that are before
        kept = window.before;
        continue;
      }
      let found = found_in(thread, sequence, window, bound, scale, draw);
      if (kind == kMinP) {
        kept = found.before;
      } else {
        kept = found.at;
      }
      token = found.id;
    }
  }
  if (thread == 0u) { tokens[sequence] = token; }
}
