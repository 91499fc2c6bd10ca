// out = activation(sum of the splits' sums), or out += it: the end of matmat.wgsl, for the outputs that it leaves unfinished.
// workgroup.y is the row of activations. Of an output that becomes float32 each thread makes four; what becomes float16
// (halves.wgsl, with one factor for the row) is a workgroup's for its whole width, kQuadsEach quads a thread.
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
}
@group(0) @binding(3) var<storage, read> table: array<Reduced>;
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<f32>>;

fn run(workgroup: vec3<u32>, thread: u32) {
  let row = workgroup.y;
  var i = 0u;
  for (var j = 0u; j + 1u < kParts; j++) { i += select(0u, 1u, workgroup.x >= table[j].end); }
  let part = table[i];
  var factor = 1.0;
  if (kFromHalves) { factor = act_f32(4u * part.scales + row) * part.unscale; }
  let first = part.sums + row * part.sums_stride;
  let quads = (part.width + 3u) / 4u;
  let first_quad = (workgroup.x - part.begin) * kWorkgroup + thread;
  // All of a split's loads are asked for before any is waited for.
  var values = array<vec4<f32>, kQuadsEach>();
  for (var split = 0u; split < part.splits; split++) {
    for (var n = 0u; n < kQuadsEach; n++) {
      values[n] += sums[first + split * part.split_stride + min(first_quad + n * kWorkgroup, quads - 1u)];
    }
  }
  var most = 0.0;
  for (var n = 0u; n < kQuadsEach; n++) {
    let quad = first_quad + n * kWorkgroup;
    if (quad < quads && (n == 0u || part.has_halves == 1u)) {
      var value = values[n] * factor;
      let out = part.out + row * part.out_stride + quad;
      if (part.activation == kAccumulate) {
        value += act_vec4(out);
      } else {
        for (var k = 0u; k < 4u; k++) { value[k] = activate(value[k], part.activation); }
      }
      // What is beyond the width is padding, and zero.
      value = select(vec4(0.0), value, vec4(4u * quad) + vec4(0u, 1u, 2u, 3u) < vec4(part.width));
      if (part.has_values == 1u) { act[out] = bitcast<vec4<u32>>(value); }
      most = max(most, magnitude(value));
      values[n] = value;
    }
  }
  if (part.has_halves == 1u) {
    clear_largest(thread);
    note_largest(0u, most, thread);
    workgroupBarrier();
    let exponent = half_exponent(0u);
    if (thread == 0u) { store_half_factor(4u * part.half_scales + row, exponent); }
    for (var n = 0u; n < kQuadsEach; n++) {
      let quad = n * kWorkgroup + thread;
      if (quad < quads) { store_half_quad(part.half_rows, part.half_octets, row, quad, exponent, values[n]); }
    }
  }
}
