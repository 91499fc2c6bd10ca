// The product without subgroup matrices: thread t makes the outputs t, t + kThreads, ... of the tile, row by row.
const kSumsEach = kTileRows * kTileOuts / kThreads;
alias Sums = array<f32, kSumsEach>;

fn multiply(sums: ptr<function, Sums>, thread: u32) {
  for (var i = 0u; i < kSumsEach; i++) {
    let at = thread + i * kThreads;
    let a = at / kTileOuts * kRowHalves;
    let b = kWeightsAt + at % kTileOuts * kRowHalves;
    var sum = (*sums)[i];
    // params[0].w is 0: written out 64 times, as compilers do with constant bounds, this takes a software GPU seconds to compile.
    for (var k = 0u; k < kStep + params[0].w; k++) { sum += f32(slice[a + k]) * f32(slice[b + k]); }
    (*sums)[i] = sum;
  }
}
fn finish(part: Part, row: u32, sums: ptr<function, Sums>, thread: u32) {
  for (var i = 0u; i < kSumsEach; i++) {
    let at = thread + i * kThreads;
    store_half_sum(part, row + at / kTileOuts, part.first + at % kTileOuts, (*sums)[i]);
  }
}
