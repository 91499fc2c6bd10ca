// The product by subgroup matrices: a subgroup makes kSubgroupRows x kSubgroupOuts of the tile, from activations as they lie in
// memory and its slice. Unfinished sums are stored as matrices; to reach single ones, a matrix of each subgroup at a time goes
// through workgroup memory.
const kDone = kMatrixN + 4u;  // floats from row to row
const kDoneEach = kMatrixM * kMatrixN / kLanes;
var<workgroup> done: array<f32, kThreads / kLanes * kMatrixM * kDone>;

fn finish(part: Part, row: u32, rows: u32, thread: u32, matrix_row: u32, matrix_out: u32) {
  workgroupBarrier();
  let owner = thread / kLanes;  // the subgroup whose matrix this thread stores
  let first_row = owner % kSubgroupsDown * kSubgroupRows + matrix_row;  // of the tile
  let first_out = part.first + owner / kSubgroupsDown * kSubgroupOuts + matrix_out;
  for (var i = 0u; i < kDoneEach; i++) {
    let at = thread % kLanes + i * kLanes;
    let m = at / kMatrixN;
    let n = at % kMatrixN;
    let sum = done[(owner * kMatrixM + m) * kDone + n];
    store_sum(part, row + first_row + m, rows, first_out + n, sum, factors[first_row + m]);
  }
  workgroupBarrier();
}
