// Rows of float32 slots as float16: half = x * s, with a power of two s for each row such that the largest |x| s lies in
// [2^14, 2^15): nothing overflows whatever the activations are, and what is more than 2^28 times smaller than the row's
// largest value loses digits. 1 / s goes to the row's factor, for the matrix's sums. Values beyond the width are zero.
//
// act: values in; factors [rows] out. halves: the rows out, in tiles (half_tiles.wgsl). workgroup.x is the row, workgroup.y the
// slot. A workgroup a row.
struct Pack {
  values: u32,         // vec4 of row 0
  values_stride: u32,  // in vec4
  halves: u32,         // vec4 of the slot
  halves_stride: u32,  // of a row
  scales: u32,         // vec4
  pad: array<u32, 3>,
}

@group(0) @binding(3) var<storage, read> packs: array<Pack>;

var<workgroup> largest: array<f32, kWorkgroup>;

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let pack = packs[workgroup.y];
  let row = workgroup.x;
  let values = pack.values + row * pack.values_stride;
  var most = 0.0;
  for (var quad = thread; quad < pack.values_stride; quad += kWorkgroup) {
    let x = abs(act_vec4(values + quad));
    most = max(most, max(max(x.x, x.y), max(x.z, x.w)));
  }
  largest[thread] = most;
  workgroupBarrier();
  for (var step = kWorkgroup / 2u; step > 0u; step /= 2u) {
    if (thread < step) { largest[thread] = max(largest[thread], largest[thread + step]); }
    workgroupBarrier();
  }
  // Bits of a float: the exponent field of 2^e is e + 127. Rows of zeros (or of less than 2^-112) take the largest s.
  let exponent = clamp((bitcast<u32>(largest[0]) >> 23u) & 255u, 15u, 254u);
  let s = bitcast<f32>((268u - exponent) << 23u);
  if (thread == 0u) { set_act_f32(4u * pack.scales + row, bitcast<f32>((exponent - 14u) << 23u)); }
  for (var octet = thread; octet < pack.halves_stride; octet += kWorkgroup) {
    var low = vec4(0.0);
    var high = vec4(0.0);
    if (2u * octet < pack.values_stride) { low = act_vec4(values + 2u * octet) * s; }
    if (2u * octet + 1u < pack.values_stride) { high = act_vec4(values + 2u * octet + 1u) * s; }
    halves[half_octet(pack.halves, pack.halves_stride, row, octet)] =
        vec4(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
  }
}
