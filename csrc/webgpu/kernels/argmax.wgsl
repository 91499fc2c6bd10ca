// kFirst: the best entry of a slice, of the logits kSlice * workgroup.x ..., into entries[workgroup.x] of the sequence's kCount; else the
// best of these, whose id becomes the sequence's token: -1 if its logit is infinite or NaN. workgroup.y is the sequence. Exact; ties
// go to the lower id.
var<workgroup> best: array<vec2<u32>, kWorkgroup>;

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let sequence = workgroup.y;
  var mine = kNothing;
  if (kFirst) {
    let end = min(kVocabulary, (workgroup.x + 1u) * kSlice);
    for (var id = workgroup.x * kSlice + thread; id < end; id += kWorkgroup) {
      let entry = vec2(logit_key(act[kLogits + sequence * kLogitsStride + id]), id);
      if (comes_first(entry, mine)) { mine = entry; }
    }
  } else {
    for (var at = thread; at < kCount; at += kWorkgroup) {
      let entry = entries[sequence * kCount + at];
      if (comes_first(entry, mine)) { mine = entry; }
    }
  }
  best[thread] = mine;
  workgroupBarrier();
  for (var step = kWorkgroup / 2u; step > 0u; step /= 2u) {
    if (thread < step && comes_first(best[thread + step], best[thread])) { best[thread] = best[thread + step]; }
    workgroupBarrier();
  }
  if (thread == 0u) {
    if (kFirst) {
      entries[sequence * kCount + workgroup.x] = best[0];
    } else {
      tokens[sequence] = select(0xffffffffu, best[0].y, best[0].x > kMinusInfinity && best[0].x < kInfinity);
    }
  }
}
