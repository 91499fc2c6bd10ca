// Sums and maxima over neighbouring threads, through subgroups: `lanes`, a power of two, divides the subgroup size.
// Called in uniform control flow.
var<workgroup> subgroup_sums: array<vec2<f32>, kWorkgroup / kSubgroupMin>;
var<private> thread_of_workgroup: u32;
var<private> subgroup_of_thread: u32;
var<private> lane_of_thread: u32;
var<private> subgroup_lanes: u32;

fn group_sum(value: f32, lanes: u32) -> f32 {
  var sum = value;
  if (lanes > 1u) { sum += subgroupShuffleXor(sum, 1u); }
  if (lanes > 2u) { sum += subgroupShuffleXor(sum, 2u); }
  if (lanes > 4u) { sum += subgroupShuffleXor(sum, 4u); }
  if (lanes > 8u) { sum += subgroupShuffleXor(sum, 8u); }
  if (lanes > 16u) { sum += subgroupShuffleXor(sum, 16u); }
  return sum;
}

// The value of the thread whose number differs in the bit `step`, a power of two that is less than the subgroup size.
fn other_lane(value: f32, step: u32) -> f32 {
  return subgroupShuffleXor(value, step);
}

fn group_max(value: f32, lanes: u32) -> f32 {
  var most = value;
  if (lanes > 1u) { most = max(most, subgroupShuffleXor(most, 1u)); }
  if (lanes > 2u) { most = max(most, subgroupShuffleXor(most, 2u)); }
  if (lanes > 4u) { most = max(most, subgroupShuffleXor(most, 4u)); }
  if (lanes > 8u) { most = max(most, subgroupShuffleXor(most, 8u)); }
  if (lanes > 16u) { most = max(most, subgroupShuffleXor(most, 16u)); }
  return most;
}

// A sum over the whole workgroup in two halves, for callers that have a workgroupBarrier() of their own between them. The
// second half, which gives every thread the sums, must not be overtaken by the next sum.
fn start_workgroup_sum(value: vec2<f32>) {
  let sum = subgroupAdd(value);
  if (lane_of_thread == 0u) { subgroup_sums[subgroup_of_thread] = sum; }
}
fn finish_workgroup_sum() -> vec2<f32> {
  var total = vec2(0.0);
  if (kOneSubgroupSize) {
    for (var i = 0u; i < kWorkgroup / kSubgroupMin; i++) { total += subgroup_sums[i]; }
  } else {
    for (var i = 0u; i < kWorkgroup / subgroup_lanes; i++) { total += subgroup_sums[i]; }
  }
  return total;
}

// Over the whole workgroup; every thread gets the sums.
fn workgroup_sum(value: vec2<f32>) -> vec2<f32> {
  start_workgroup_sum(value);
  workgroupBarrier();
  let total = finish_workgroup_sum();
  workgroupBarrier();
  return total;
}

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(subgroup_id) subgroup: u32,
        @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_size) size: u32) {
  subgroup_of_thread = subgroup;
  lane_of_thread = lane;
  subgroup_lanes = size;
  thread_of_workgroup = subgroup * size + lane;
  run(workgroup, subgroup * size + lane);
}
