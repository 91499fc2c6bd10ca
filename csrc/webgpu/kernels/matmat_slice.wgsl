// A slice of the weights in workgroup memory, float16: a row of kStep values for each output. What a thread brings of the next
// slice waits in registers while this one is multiplied. The activations need no slice: they lie in tiles already.
const kRowHalves = kStep + 8u;  // the padding spreads the rows over the banks
const kUnitsEach = kTileOuts * (kStep / 32u) / kThreads;

var<workgroup> slice: array<f16, kTileOuts * kRowHalves>;

fn put_octet(at: u32, octet: vec4<u32>) {
  let a = bitcast<vec2<f16>>(octet.x);
  let b = bitcast<vec2<f16>>(octet.y);
  let c = bitcast<vec2<f16>>(octet.z);
  let d = bitcast<vec2<f16>>(octet.w);
  slice[at] = a.x;
  slice[at + 1u] = a.y;
  slice[at + 2u] = b.x;
  slice[at + 3u] = b.y;
  slice[at + 4u] = c.x;
  slice[at + 5u] = c.y;
  slice[at + 6u] = d.x;
  slice[at + 7u] = d.y;
}

fn put_quad(at: u32, quad: vec2<u32>) {
  let a = bitcast<vec2<f16>>(quad.x);
  let b = bitcast<vec2<f16>>(quad.y);
  slice[at] = a.x;
  slice[at + 1u] = a.y;
  slice[at + 2u] = b.x;
  slice[at + 3u] = b.y;
}

alias Weights = array<Fetched, kUnitsEach>;

// Input k of the step of output `out` of the tile.
fn weight_half(part: Part, out: u32, step: u32, k: u32) -> f16 {
  return slice[out * kRowHalves + k];
}
