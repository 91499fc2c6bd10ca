// A slice of kSlice logits of a sequence (workgroup.y), from workgroup.x * kSlice on: penalties for what came before, and the keys of what
// comes out; the slice's extremes. Clears the sums for draw_sums.
//
// history: for each token its decayed count among the generated ones (float32), and a mark: twice the place of its last use (from 1
// on; 0: none) plus one if it was generated. The token that the last submit drew is entered here.
@group(0) @binding(6) var<storage, read_write> sums: array<u32>;

var<workgroup> greatest: atomic<u32>;
var<workgroup> least: atomic<u32>;  // its complement

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

fn key_of(draw: Draw, sequence: u32, id: u32) -> u32 {
  let bits = act[kLogits + sequence * kLogitsStride + id];
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }  // NaN
  var logit = bitcast<f32>(bits);
  if (kPenalties) { logit = penalized(draw, sequence, id, logit); }
  if (bits != 0x7f800000u) { logit = clamp(logit, kBanned, -kBanned); }
  return logit_key(bitcast<u32>(logit));
}

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let sequence = workgroup.y;
  let draw = draw_of(sequence);
  for (var i = workgroup.x * kWorkgroup + thread; i < kSumsOfSequence; i += kSlices * kWorkgroup) { sums[sequence * kSumsOfSequence + i] = 0u; }

  let end = min(kVocabulary, (workgroup.x + 1u) * kSlice);
  for (var id = workgroup.x * kSlice + thread; id < end; id += kWorkgroup) {
    let key = key_of(draw, sequence, id);
    set_keys_word(sequence, id, key);
    atomicMax(&greatest, key);
    if (key_logit(key) > 0.5 * kBanned) { atomicMax(&least, ~key); }
  }
  workgroupBarrier();
  if (thread == 0u) {
    let unbanned = atomicLoad(&least);
    set_keys_word(sequence, kExtremes + 2u * workgroup.x, atomicLoad(&greatest));
    set_keys_word(sequence, kExtremes + 2u * workgroup.x + 1u, select(~unbanned, 0u, unbanned == 0u));
  }
}
