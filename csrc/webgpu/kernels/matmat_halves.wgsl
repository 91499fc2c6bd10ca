// A slice of the weights in workgroup memory, float16: a row of kStep values for each output. What a thread brings of the next
// slice waits in registers while this one is multiplied. The activations need no slice: they lie in tiles already.
const kStep = 64u;
const kRowHalves = kStep + 8u;  // the padding spreads the rows over the banks
const kUnitsEach = kTileOuts * (kStep / 32u) / kThreads;

// Rows of activations as half_tiles.wgsl orders them, one by one.
@group(0) @binding(5) var<storage, read> halves: array<f16>;

// A unit of weights as it lies in memory, or where that is larger as float16: decoded when it is put into its slice, so that
// its loads stay under way until then.
alias Fetched = array<vec4<u32>, 4>;

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

alias Weights = array<Fetched, kUnitsEach>;

// What undoes the scales of the packed rows and of the weights: loaded once, before the product.
var<workgroup> factors: array<f32, kTileRows>;
fn load_factors(part: Part, row: u32, thread: u32) {
  for (var i = thread; i < kTileRows; i += kThreads) { factors[i] = act_f32(4u * part.scales + row + i) * part.unscale; }
}
