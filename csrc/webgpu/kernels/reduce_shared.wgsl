// Sums and maxima over neighbouring threads, through workgroup memory, for devices whose subgroups are missing or too small.
// `lanes` is a power of two that divides the workgroup size (a last, shorter group is allowed). Called in uniform control flow.
var<workgroup> reduce_values: array<f32, kWorkgroup>;
var<workgroup> reduce_pairs: array<vec2<f32>, kWorkgroup>;
var<private> thread_of_workgroup: u32;

fn group_sum(value: f32, lanes: u32) -> f32 {
  var sum = value;
  for (var step = 1u; step < lanes; step *= 2u) {
    reduce_values[thread_of_workgroup] = sum;
    workgroupBarrier();
    let other = thread_of_workgroup ^ step;
    if (other < kWorkgroup) { sum += reduce_values[other]; }
    workgroupBarrier();
  }
  return sum;
}

// The value of the thread whose number differs in the bit `step`, a power of two that is less than the workgroup size.
fn other_lane(value: f32, step: u32) -> f32 {
  reduce_values[thread_of_workgroup] = value;
  workgroupBarrier();
  let other = reduce_values[thread_of_workgroup ^ step];
  workgroupBarrier();
  return other;
}

fn group_max(value: f32, lanes: u32) -> f32 {
  var most = value;
  for (var step = 1u; step < lanes; step *= 2u) {
    reduce_values[thread_of_workgroup] = most;
    workgroupBarrier();
    let other = thread_of_workgroup ^ step;
    if (other < kWorkgroup) { most = max(most, reduce_values[other]); }
    workgroupBarrier();
  }
  return most;
}

// Over the whole workgroup; every thread gets the sums.
fn workgroup_sum(value: vec2<f32>) -> vec2<f32> {
  reduce_pairs[thread_of_workgroup] = value;
  workgroupBarrier();
  for (var step = kWorkgroupPowerOfTwo / 2u; step > 0u; step /= 2u) {
    if (thread_of_workgroup < step && thread_of_workgroup + step < kWorkgroup) {
      reduce_pairs[thread_of_workgroup] += reduce_pairs[thread_of_workgroup + step];
    }
    workgroupBarrier();
  }
  let total = reduce_pairs[0];
  workgroupBarrier();
  return total;
}

// The same in two halves, for callers that have a workgroupBarrier() of their own between them. The second half must not be
// overtaken by the next sum.
var<private> sum_on_the_way: vec2<f32>;
fn start_workgroup_sum(value: vec2<f32>) {
  sum_on_the_way = workgroup_sum(value);
}
fn finish_workgroup_sum() -> vec2<f32> {
  return sum_on_the_way;
}

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  thread_of_workgroup = thread;
  run(workgroup, thread);
}
