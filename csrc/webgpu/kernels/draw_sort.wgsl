// A run: the kSlice logits of a sequence (workgroup.y) from workgroup.x * kSlice on, with penalties for what came before, sorted
// by falling logit and rising id; and running sums of their weights.
//
// history: for each token its decayed count among the generated ones (float32), and a mark: twice the place of its last use (from 1
// on; 0: none) plus one if it was generated. The token that the last submit drew is entered here.
fn penalized(draw: Draw, sequence: u32, id: u32, logit: f32) -> f32 {
  let at = sequence * kVocabulary + id;
  var count = bitcast<f32>(history[at].x);
  var mark = history[at].y;
  if ((draw.flags & kAcceptsToken) != 0u) {
    let is_last = id == tokens[sequence];
    if (is_last || (mark & 1u) != 0u) {
      count = select(0.0, count * draw.decay, (mark & 1u) != 0u);
      if (is_last) {
        count += 1.0;
        mark = 2u * (draw.index - 1u) + 1u;
      }
      history[at] = vec2(bitcast<u32>(count), mark);
    }
  }
  var lowered = logit;
  if ((draw.flags & kHasOccurrence) != 0u && (mark & 1u) != 0u) { lowered -= draw.presence + draw.frequency * count; }
  if ((draw.flags & kHasRepeat) != 0u && mark / 2u != 0u && draw.index - mark / 2u <= draw.repeat_last_n) {
    lowered = select(lowered * draw.repeat, lowered / draw.repeat, lowered > 0.0);
  }
  return lowered;
}

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let sequence = workgroup.y;
  let draw = draw_of(sequence);
  for (var i = thread; i < kSlice; i += kWorkgroup) {
    let id = workgroup.x * kSlice + i;
    var entry = vec2(0u, id);  // beyond the vocabulary: after every logit
    if (id < kVocabulary) {
      let bits = act[kLogits + sequence * kLogitsStride + id];
      entry = vec2(0xffffffffu, id);  // NaN
      if ((bits & 0x7fffffffu) <= 0x7f800000u) {
        var logit = bitcast<f32>(bits);
        if (kPenalties) { logit = penalized(draw, sequence, id, logit); }
        if (bits != 0x7f800000u) { logit = clamp(logit, kBanned, -kBanned); }
        entry.x = logit_key(bitcast<u32>(logit));
      }
    }
    sorted[i] = entry;
  }
  workgroupBarrier();
  sort(thread, kSlice);

  const kEach = kSlice / kWorkgroup;
  let best = key_logit(sorted[0].x);
  var weights: array<vec2<f32>, kEach>;
  var mine = vec2(0.0);
  for (var i = 0u; i < kEach; i++) {
    let key = sorted[thread * kEach + i].x;
    weights[i] = select(vec2(0.0), weights_of(key_logit(key), best, draw.inverse_temperature), key != 0u);
    mine += weights[i];
  }
  var sum = sums_before(thread, mine);
  let first = sequence * kStrideOfSequence + workgroup.x * kSlice;
  for (var i = 0u; i < kEach; i++) {
    sum += weights[i];
    let at = thread * kEach + i;
    entries[first + at] = sorted[at];
    entries[first + kSums + at] = bitcast<vec2<u32>>(sum);
  }
}
