// The kKeep best logits of a sequence (workgroup.y), sorted, into entries[1 ...] of the sequence's, and log sum exp of all of its
// kVocabulary logits into the first. Exact; ties go to the lower id.
// The logits id = stripe (mod kSlice) have a best one; the kKeep-th best of these bests is no better than the kKeep-th best logit.
// So what is no worse than that, hardly more than kKeep logits, is collected and sorted. Where it does not fit, because very many
// logits are equal, slice after slice is sorted together with the best ones so far.
// Bitonic sort in workgroup memory; sums of exp(logit - best) in an order that depends on the workgroup's size alone.
const kAtOnce = 8u;  // loads under way

var<workgroup> sums: array<f32, kWorkgroup>;
var<workgroup> collected: atomic<u32>;
var<workgroup> n_collected: u32;

// 0, which is the key of no logit, beyond the vocabulary.
fn key_of(sequence: u32, id: u32) -> u32 {
  let key = logit_key(act[kLogits + sequence * kLogitsStride + min(id, kVocabulary - 1u)]);
  return select(0u, key, id < kVocabulary);
}

// Sum over the workgroup of each thread's value.
fn total(thread: u32, value: f32) -> f32 {
  sums[thread] = value;
  workgroupBarrier();
  for (var step = kWorkgroup / 2u; step > 0u; step /= 2u) {
    if (thread < step) { sums[thread] += sums[thread + step]; }
    workgroupBarrier();
  }
  return sums[0];
}

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let sequence = workgroup.y;
  for (var stripe = thread; stripe < kSlice; stripe += kWorkgroup) {
    var best = 0u;
    for (var first = stripe; first < kVocabulary; first += kAtOnce * kSlice) {
      var keys: array<u32, kAtOnce>;
      for (var i = 0u; i < kAtOnce; i++) { keys[i] = key_of(sequence, first + i * kSlice); }
      for (var i = 0u; i < kAtOnce; i++) { best = max(best, keys[i]); }
    }
    sorted[stripe] = vec2(best, stripe);
  }
  if (thread == 0u) { atomicStore(&collected, 0u); }
  workgroupBarrier();
  sort(thread, kSlice);
  let most = sorted[0].x;
  let least = max(sorted[kKeep - 1u].x, 1u);
  workgroupBarrier();

  // -inf and what comes after it add nothing.
  var sum = 0.0;
  for (var first = thread; first < kVocabulary; first += kAtOnce * kWorkgroup) {
    var keys: array<u32, kAtOnce>;
    for (var i = 0u; i < kAtOnce; i++) { keys[i] = key_of(sequence, first + i * kWorkgroup); }
    for (var i = 0u; i < kAtOnce; i++) {
      if (keys[i] > kMinusInfinity) { sum += exp(key_logit(keys[i]) - key_logit(most)); }
      if (keys[i] >= least) {
        let at = atomicAdd(&collected, 1u);
        if (at < kSlice) { sorted[at] = vec2(keys[i], first + i * kWorkgroup); }
      }
    }
  }
  let whole = total(thread, sum);
  if (thread == 0u) {
    entries[sequence * kResultStride] = vec2(bitcast<u32>(key_logit(most) + log(whole)), 0u);
    n_collected = atomicLoad(&collected);
  }
  let n = workgroupUniformLoad(&n_collected);
  if (n <= kSlice) {
    var count = kSlice;
    while (count / 2u >= max(max(n, kKeep), 8u)) { count /= 2u; }
    for (var i = n + thread; i < count; i += kWorkgroup) { sorted[i] = kNothing; }
    workgroupBarrier();
    sort(thread, count);
  } else {
    for (var i = thread; i < kKeep; i += kWorkgroup) { sorted[i] = kNothing; }
    for (var first = 0u; first < kVocabulary; first += kSlice - kKeep) {
      for (var i = thread; i < kSlice - kKeep; i += kWorkgroup) {
        let key = key_of(sequence, first + i);
        sorted[kKeep + i] = select(kNothing, vec2(key, first + i), key != 0u);
      }
      workgroupBarrier();
      sort(thread, kSlice);
    }
  }
  for (var i = thread; i < kKeep; i += kWorkgroup) { entries[sequence * kResultStride + 1u + i] = sorted[i]; }
}
