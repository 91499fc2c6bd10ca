// A step of the activations in workgroup memory, from where all subgroups of a workgroup load it: kStep halves of each row of the tile.
// What a thread brings of the next step waits in registers. Of two slices in turn, one barrier a step is enough; one takes less memory.
@group(0) @binding(5) var<storage, read> half_octets: array<vec4<u32>>;
const kRowHalves = kStep + 8u;  // the padding spreads the rows over the banks
const kSliceHalves = kTileRows * kRowHalves;
const kOctetsEach = kTileRows * (kStep / 8u) / kThreads;
const kLineOctets = kHalfTileRows * (kStep / 8u);  // of a step, of the rows of a tile: they lie in one piece

var<workgroup> slice: array<f16, kSlices * kSliceHalves>;

alias Octets = array<vec4<u32>, kOctetsEach>;

fn load_octets(part: Part, row: u32, step: u32, thread: u32) -> Octets {
  var octets: Octets;
  for (var i = 0u; i < kOctetsEach; i++) {
    let at = thread + i * kThreads;
    let line = row / kHalfTileRows + at / kLineOctets;
    octets[i] = half_octets[part.input + line * (part.input_stride * kHalfTileRows) + step * kLineOctets + at % kLineOctets];
  }
  return octets;
}
fn put_octets(slice_at: u32, octets: Octets, thread: u32) {
  for (var i = 0u; i < kOctetsEach; i++) {
    let at = thread + i * kThreads;
    let in_line = at % kLineOctets;
    let row = at / kLineOctets * kHalfTileRows + in_line / kHalfTileOctets % kHalfTileRows;
    let octet = in_line / (kHalfTileRows * kHalfTileOctets) * kHalfTileOctets + in_line % kHalfTileOctets;
    put_octet(8u * (slice_at / 8u + row * (kRowHalves / 8u) + octet), octets[i]);  // eight times: the compiler joins the stores
  }
}
