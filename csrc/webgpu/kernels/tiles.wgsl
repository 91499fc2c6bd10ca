// tiles = float16(scale * weight), several matrices ("parts") at once: what matmat.wgsl makes of weights in workgroup memory,
// made once in device memory (weight_tiles.wgsl), for products that load it from there (tiles_product.wgsl).
//
// weights: the packed rows of all parts. A thread decodes a unit of 32 values; neighbours are the two units of a step of 64
// inputs, then the outputs of a tile, then the steps: a tile is written by neighbours, and reads are of two units at least.
struct Part {
  end: u32,      // workgroups of this part and those before it
  begin: u32,    // and of those before it
  kind: u32,     // how its weights are decoded
  weights: u32,  // vec4 of the first row
  stride: u32,   // from row to row, in vec4
  units: u32,    // of a row: 32 values, or 8 where the weights are floats
  rows: u32,
  tiles: u32,    // vec4 of the first tile
  octets: u32,   // of a row, beyond the inputs too
  outs: u32,     // rows, beyond the matrix too
  scale: f32,    // what the weights are multiplied with
  pad: u32,
}
@group(0) @binding(1) var<storage, read_write> tiles: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> parts: array<Part>;

// The unit that this thread makes.
var<private> unit_halves: array<vec4<u32>, 4>;
fn put_octet(at: u32, octet: vec4<u32>) {
  unit_halves[at / 8u] = octet;
}
