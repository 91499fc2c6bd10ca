// The product without subgroup matrices: thread t makes the outputs t, t + kThreads, ... of the tile, row by row.
const kSumsEach = kTileRows * kTileOuts / kThreads;
alias Sums = array<f32, kSumsEach>;

fn multiply(part: Part, row: u32, step: u32, mine: ptr<function, Sums>, thread: u32) {
  for (var i = 0u; i < kSumsEach; i++) {
    let at = thread + i * kThreads;
    var sum = (*mine)[i];
    // params[0].w is 0: written out 64 times, as compilers do with constant bounds, this takes a software GPU seconds to compile.
    for (var k = 0u; k < kStep + params[0].w; k++) {
      let a = 8u * half_octet(part.input, part.input_stride, row + at / kTileOuts, step * (kStep / 8u) + k / 8u) + k % 8u;
      sum += f32(halves[a]) * f32(weight_half(part, at % kTileOuts, step, k));
    }
    (*mine)[i] = sum;
  }
}
fn finish(part: Part, row: u32, mine: ptr<function, Sums>, thread: u32) {
  for (var i = 0u; i < kSumsEach; i++) {
    let at = thread + i * kThreads;
    let row_at = at / kTileOuts;
    store_sum(part, row + row_at, rows_of(part), part.first + at % kTileOuts, (*mine)[i], factors[row_at]);
  }
}
