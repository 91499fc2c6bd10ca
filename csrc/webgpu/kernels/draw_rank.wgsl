// The place of samples among all runs of a sequence (workgroup.y). kLanes neighbouring threads take a sample, a run each, or several.
var<workgroup> partial: array<vec3<f32>, kWorkgroup>;  // entries, both weights
var<workgroup> peaks: array<u32, kWorkgroup>;

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let sequence = workgroup.y;
  let draw = draw_of(sequence);
  let first = sequence * kStrideOfSequence;
  let lane = thread % kLanes;
  let sample = workgroup.x * (kWorkgroup / kLanes) + thread / kLanes;

  var most = 0u;
  for (var run = lane; run < kRuns; run += kLanes) { most = max(most, entries[first + run * kSlice].x); }
  peaks[thread] = most;
  workgroupBarrier();
  for (var step = kLanes / 2u; step > 0u; step /= 2u) {
    if (lane < step) { peaks[thread] = max(peaks[thread], peaks[thread + step]); }
    workgroupBarrier();
  }
  let peak = key_logit(peaks[thread - lane]);

  let entry = entries[first + min(sample, kSamples - 1u) * kStride + kStride - 1u];
  var sums = vec3(0.0);
  for (var run = lane; run < kRuns; run += kLanes) {
    let begin = first + run * kSlice;
    var count = 0u;
    for (var step = kSlice / 2u; step > 0u; step /= 2u) {
      if (!comes_first(entry, entries[begin + count + step - 1u])) { count += step; }
    }
    if (!comes_first(entry, entries[begin + count])) { count += 1u; }
    let before = bitcast<vec2<f32>>(entries[begin + kSums + max(count, 1u) - 1u]);
    let scale = weights_of(key_logit(entries[begin].x), peak, draw.inverse_temperature);
    sums += select(vec3(0.0), vec3(f32(count), before * scale), count != 0u);
    if (sample < kSamples) { places[(sequence * kSamples + sample) * kRuns + run] = count; }
  }
  partial[thread] = sums;
  workgroupBarrier();
  for (var step = kLanes / 2u; step > 0u; step /= 2u) {
    if (lane < step) { partial[thread] += partial[thread + step]; }
    workgroupBarrier();
  }
  if (lane == 0u && sample < kSamples) {
    let at = first + kRanks + 2u * sample;
    entries[at] = vec2(u32(partial[thread].x), entry.x);
    entries[at + 1u] = bitcast<vec2<u32>>(partial[thread].yz);
  }
}
