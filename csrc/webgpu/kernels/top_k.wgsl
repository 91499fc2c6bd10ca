// The kKeep best entries of each slice of kSlice, sorted: kFirst: of the logits, with the slice's largest logit m and
// sum of exp(logit - m) into entries[kSums ...]; else of the kCount entries at kIn. workgroup.y is the sequence.
// kLast (one slice): also log sum exp of the whole vocabulary, from the slices' sums, into entries[kResult].
// Bitonic sort in workgroup memory.
var<workgroup> sorted: array<vec2<u32>, kSlice>;
var<workgroup> sums: array<f32, kWorkgroup>;

fn sort_slice(thread: u32) {
  for (var size = 2u; size <= kSlice; size *= 2u) {
    for (var step = size / 2u; step > 0u; step /= 2u) {
      for (var i = thread; i < kSlice / 2u; i += kWorkgroup) {
        let low = 2u * step * (i / step) + i % step;
        let high = low + step;
        let best_first = (low & size) == 0u;
        if (comes_first(sorted[high], sorted[low]) == best_first) {
          let swap = sorted[low];
          sorted[low] = sorted[high];
          sorted[high] = swap;
        }
      }
      workgroupBarrier();
    }
  }
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
  let start = workgroup.x * kSlice;
  for (var i = thread; i < kSlice; i += kWorkgroup) {
    var entry = kNothing;
    if (start + i < kCount) {
      if (kFirst) {
        entry = vec2(logit_key(act[kLogits + sequence * kLogitsStride + start + i]), start + i);
      } else {
        entry = entries[kIn + sequence * kInStride + start + i];
      }
    }
    sorted[i] = entry;
  }
  workgroupBarrier();
  sort_slice(thread);
  for (var i = thread; i < kKeep; i += kWorkgroup) {
    entries[kOut + sequence * kOutStride + workgroup.x * kKeep + i] = sorted[i];
  }
  // -inf has key 0x007fffff; it and what comes after it add nothing.
  if (kFirst) {
    let most = sorted[0].x;
    var sum = 0.0;
    for (var i = thread; i < kSlice; i += kWorkgroup) {
      if (sorted[i].x > 0x007fffffu) { sum += exp(key_logit(sorted[i].x) - key_logit(most)); }
    }
    let slice_sum = total(thread, sum);
    if (thread == 0u) {
      entries[kSums + sequence * kSumsStride + workgroup.x] = vec2(most, bitcast<u32>(slice_sum));
    }
  }
  if (kLast) {
    workgroupBarrier();
    storageBarrier();
    let most = sorted[0].x;
    var sum = 0.0;
    for (var slice = thread; slice < kSlices; slice += kWorkgroup) {
      let entry = entries[kSums + sequence * kSumsStride + slice];
      if (entry.x > 0x007fffffu) { sum += bitcast<f32>(entry.y) * exp(key_logit(entry.x) - key_logit(most)); }
    }
    let whole = total(thread, sum);
    if (thread == 0u) {
      entries[kResult + sequence * kResultStride] = vec2(bitcast<u32>(key_logit(most) + log(whole)), 0u);
    }
  }
}
