// The product by subgroup matrices: a subgroup makes kSubgroupRows x kSubgroupOuts of the tile, from activations as they lie in
// memory (asked for before the weights of a step are decoded, and then 16 inputs ahead) and its slice. Unfinished sums are stored as
// matrices; to reach single ones, a matrix of each subgroup at a time goes through workgroup memory.
const kDone = kMatrixN + 4u;  // floats from row to row
const kDoneEach = kMatrixM * kMatrixN / kLanes;
var<workgroup> done: array<f32, kThreads / kLanes * kMatrixM * kDone>;

fn finish(part: Part, row: u32, thread: u32, matrix_row: u32, matrix_out: u32) {
  workgroupBarrier();
  let owner = thread / kLanes;  // the subgroup whose matrix this thread stores
  let first_row = row + owner % kSubgroupsDown * kSubgroupRows + matrix_row;
  let first_out = part.first + owner / kSubgroupsDown * kSubgroupOuts + matrix_out;
  for (var i = 0u; i < kDoneEach; i++) {
    let at = thread % kLanes + i * kLanes;
    let m = at / kMatrixN;
    let n = at % kMatrixN;
    store_sum(part, first_row + m, first_out + n, done[(owner * kMatrixM + m) * kDone + n], half_factor(part, first_row + m));
  }
  workgroupBarrier();
}
