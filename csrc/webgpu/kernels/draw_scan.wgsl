// Sums over the threads before this one, in an order that depends on the workgroup's size alone.
var<workgroup> scanned: array<vec2<f32>, kWorkgroup>;

fn sums_before(thread: u32, mine: vec2<f32>) -> vec2<f32> {
  scanned[thread] = mine;
  workgroupBarrier();
  for (var step = 1u; step < kWorkgroup; step *= 2u) {
    var sum = scanned[thread];
    if (thread >= step) { sum += scanned[thread - step]; }
    workgroupBarrier();
    scanned[thread] = sum;
    workgroupBarrier();
  }
  return select(vec2(0.0), scanned[max(thread, 1u) - 1u], thread > 0u);
}
