// A slice of the weights in workgroup memory, float16: a row of kStep values for each output. What a thread brings of the next
// slice waits in registers while this one is multiplied. The activations need no slice: they lie in tiles already.
const kRowHalves = kStep + 8u;  // the padding spreads the rows over the banks
const kUnitsEach = kTileOuts * (kStep / 32u) / kThreads;

var<workgroup> slice: array<f16, kTileOuts * kRowHalves>;

alias Weights = array<Fetched, kUnitsEach>;

// Input k of the step of output `out` of the tile.
fn weight_half(part: Part, out: u32, step: u32, k: u32) -> f16 {
  return slice[out * kRowHalves + k];
}
