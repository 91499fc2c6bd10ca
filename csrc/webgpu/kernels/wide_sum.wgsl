// A sum over more neighbouring threads than group_sum() takes, kNarrow. Called in uniform control flow.
var<workgroup> narrow_sums: array<f32, kWorkgroup / kNarrow>;
fn wide_sum(value: f32, lanes: u32, thread: u32) -> f32 {
  let narrow = group_sum(value, kNarrow);
  if (thread % kNarrow == 0u) { narrow_sums[thread / kNarrow] = narrow; }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < lanes / kNarrow; i++) { sum += narrow_sums[thread / lanes * (lanes / kNarrow) + i]; }
  workgroupBarrier();
  return sum;
}
