// out = activation(sum of the splits' sums), or out += it: the end of matmat.wgsl, for the outputs that it leaves unfinished.
// workgroup.y is the row of activations; a thread makes four outputs, as float32 or float16 (halves.wgsl). Of some it notes the largest.
//
// Float16 rows have one power of two as their factor. It comes from a bound, for which no workgroup need know the whole row: no sum
// is larger than the row that is multiplied times the longest row of weights (Cauchy and Schwarz; Euclidean lengths), no tanh or
// sigmoid is larger than 1. Of rows of n values with nothing to choose among them, the largest sums are sqrt(n) / 4 times smaller than
// that, and blocks of weights have their largest values all over (core/magnitude.h): another 2 to 6 times. After relu^2 that is 2^15
// of the 2^29 for which float16 is exact: what is 2^14 times smaller than a row's largest value may lose digits, of which the largest
// one's rounding leaves none.
struct Reduced {
  end: u32,           // workgroups of this part and those before it
  begin: u32,         // and of those before it
  sums: u32,          // vec4 of the first split's sums
  sums_stride: u32,   // from row to row, in vec4
  split_stride: u32,  // likewise from split to split
  splits: u32,
  width: u32,         // outputs
  activation: u32,
  scales: u32,        // vec4 of the factors of packed rows
  unscale: f32,       // what undoes the scale of the weights
  has_values: u32,
  out: u32,           // vec4 of the slot
  out_stride: u32,    // from row to row, in vec4
  has_halves: u32,
  half_rows: u32,     // as in half_tiles.wgsl
  half_octets: u32,
  half_scales: u32,   // vec4 of the factors to write
  lengths: u32,       // vec4 of the lengths of the rows that were multiplied
  row_length: f32,    // that no row of weights exceeds
  notes_largest: u32,
  largest: u32,        // value of act: the largest magnitude that each workgroup makes of row 0
  largest_stride: u32,
}
@group(0) @binding(3) var<storage, read> table: array<Reduced>;
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<f32>>;

// No output of the row is larger.
fn bound_of(part: Reduced, row: u32) -> f32 {
  let sum = act_f32(4u * part.lengths + row) * part.row_length;
  switch (part.activation) {
    case kTanh, kSigmoid: { return 1.0; }
    default: { return abs(activate(sum, part.activation)); }
  }
}

fn run(workgroup: vec3<u32>, thread: u32) {
  let row = workgroup.y;
  var i = 0u;
  for (var j = 0u; j + 1u < kParts; j++) { i += select(0u, 1u, workgroup.x >= table[j].end); }
  let part = table[i];
  let quad = (workgroup.x - part.begin) * kWorkgroup + thread;
  let exists = quad < (part.width + 3u) / 4u;
  var factor = 1.0;
  if (kFromHalves) { factor = act_f32(4u * part.scales + row) * part.unscale; }
  let exponent = exponent_of(bitcast<u32>(bound_of(part, row)));
  let first = part.sums + row * part.sums_stride + quad;
  var value = vec4(0.0);
  for (var split = 0u; split < part.splits && exists; split++) { value += sums[first + split * part.split_stride]; }
  value *= factor;
  let out = part.out + row * part.out_stride + quad;
  if (part.activation == kAccumulate) {
    if (exists) { value += act_vec4(out); }
  } else {
    for (var k = 0u; k < 4u; k++) { value[k] = activate(value[k], part.activation); }
  }
  // What is beyond the width is padding, and zero.
  value = select(vec4(0.0), value, vec4(4u * quad) + vec4(0u, 1u, 2u, 3u) < vec4(part.width));
  if (exists && part.has_values == 1u) { act[out] = bitcast<vec4<u32>>(value); }
  if (exists && part.has_halves == 1u) {
    store_half_quad(part.half_rows, part.half_octets, row, quad, exponent, value);
    if (quad == 0u) { store_half_factor(4u * part.half_scales + row, exponent); }
  }
  if (part.notes_largest == 1u) {
    clear_largest(thread);
    note_largest(0u, magnitude(value), thread);
    workgroupBarrier();
    if (thread == 0u) {
      set_act_f32(part.largest + row * part.largest_stride + workgroup.x - part.begin, bitcast<f32>(atomicLoad(&largest[0])));
    }
  }
}
