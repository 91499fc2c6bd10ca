// The operands' slices in workgroup memory, float16: a row of kStep values for each row of activations, then one for each
// output. What a thread brings of the next slice waits in registers while this one is multiplied.
const kStep = 64u;
const kRowHalves = kStep + 8u;  // the padding spreads the rows over the banks
const kWeightsAt = kTileRows * kRowHalves;
const kInputsEach = kTileRows * (kStep / 8u) / kThreads;  // octets
const kUnitsEach = kTileOuts * (kStep / 32u) / kThreads;

// A unit of weights as it lies in memory, or where that is larger as float16: decoded when it is put into its slice, so that
// its loads stay under way until then.
alias Fetched = array<vec4<u32>, 4>;

var<workgroup> slice: array<f16, (kTileRows + kTileOuts) * kRowHalves>;

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

alias Inputs = array<vec4<u32>, kInputsEach>;
fn load_inputs(part: Part, row: u32, step: u32, thread: u32) -> Inputs {
  var inputs: Inputs;
  for (var i = 0u; i < kInputsEach; i++) {
    let octet = thread + i * kThreads;
    inputs[i] = act[part.input + (row + octet / 8u) * part.input_stride + step * 8u + octet % 8u];
  }
  return inputs;
}
fn put_inputs(inputs: Inputs, thread: u32) {
  for (var i = 0u; i < kInputsEach; i++) {
    let octet = thread + i * kThreads;
    put_octet((octet / 8u) * kRowHalves + octet % 8u * 8u, inputs[i]);
  }
}

alias Weights = array<Fetched, kUnitsEach>;
