// The product in float32, by registers: a thread makes 4 x 4 of the 64 x 64 outputs of a workgroup of 256. The slices lie
// [kStep][64], so that a thread reads its four rows and four outputs as a vec4 each.
const kThreads = 256u;
const kStep = 32u;
var<workgroup> input_slice: array<vec4<f32>, kStep * 16u>;
var<workgroup> weight_slice: array<vec4<f32>, kStep * 16u>;

// Sixteen weights: half a unit of 32.
alias Sixteen = array<vec4<f32>, 4>;

$FETCHES

fn fetch(part: Part, row: u32, unit: u32, half: u32) -> Sixteen {
  switch (part.kind) {
    $FETCH
  }
}

fn put_slices(part: Part, row: u32, step: u32, thread: u32) {
  let lane = thread % 64u;  // row of the weights or of the activations
  let half = thread / 64u % 2u;
  var values: Sixteen;
  if (thread < 128u) {
    let weight_row = row_at(part.weights, min(part.first + lane, part.rows - 1u), part.stride, part.rows);
    values = fetch(part, weight_row, step, half);
  } else {
    let quad = step * 8u + half * 4u;
    for (var i = 0u; i < 4u; i++) {
      if (quad + i < part.input_stride) { values[i] = act_vec4(part.input + (row + lane) * part.input_stride + quad + i); }
    }
  }
  for (var k = 0u; k < 16u; k++) {
    let at = (half * 16u + k) * 16u + lane / 4u;
    let value = values[k / 4u][k % 4u];
    if (thread < 128u) {
      weight_slice[at][lane % 4u] = value;
    } else {
      input_slice[at][lane % 4u] = value;
    }
  }
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let part = part_of(workgroup.x, thread);
  let row = workgroup.y * kTileRows;
  let down = thread / 16u;
  let along = thread % 16u;
  var mine = array<vec4<f32>, 4>();
  for (var step = part.step; step < part.last; step++) {
    workgroupBarrier();
    put_slices(part, row, step, thread);
    workgroupBarrier();
    for (var k = 0u; k < kStep; k++) {
      let a = input_slice[k * 16u + down];
      let b = weight_slice[k * 16u + along];
      mine[0] += a.x * b;
      mine[1] += a.y * b;
      mine[2] += a.z * b;
      mine[3] += a.w * b;
    }
  }
  let rows = rows_of(part);
  for (var m = 0u; m < 4u; m++) {
    for (var n = 0u; n < 4u; n++) { store_sum(part, row + 4u * down + m, rows, part.first + 4u * along + n, mine[m][n], 1.0); }
  }
}
