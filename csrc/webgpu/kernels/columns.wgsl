// linear.wgsl for a few rows of activations, kTile at once: out = activation(weight . in), or out += weight . in, for several
// matrices ("parts").
//
// weights: the packed rows of all parts. act: inputs as float32 or int8; outputs as float32, or int8 where they are quantized here.
// A workgroup takes some rows of one part (part_of: part_text.h) for kTile rows of activations (workgroup.y).
// What costs time is not the weights' way from memory alone, as for one row, but also the arithmetic and the activations' way: a
// thread decodes its units once for all rows of activations, and reads activations, which where many rows share them are staged in
// workgroup memory chunk by chunk, once for several matrix rows. `lanes` neighbouring threads share these rows, and so do `slices` such groups of them;
// sums meet in workgroup memory.
// How a row is read is the part's kind: columns_kind.wgsl, one instance for each type, width and precision. Numbers as in linear.wgsl.
var<workgroup> column_sums: array<f32, kSums>;  // [group][slice][row of activations][matrix row]
var<workgroup> staged: array<vec4<u32>, kStaged>;    // [row of activations][vec4 of a unit][unit of the chunk]

fn dot_octets(a: Octet, b: Octet) -> f32 {
  return dot(a.low, b.low) + dot(a.high, b.high);
}

fn run(workgroup: vec3<u32>, thread: u32) {
  let part = part_of(workgroup.x);
  let tile = workgroup.y * kTile;
  switch (part.kind) {
    $KINDS
    default: {}
  }
}
