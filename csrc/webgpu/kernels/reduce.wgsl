// out = activation(sum of the splits' sums), or out += it: the end of matmat.wgsl. A thread an output; workgroup.y is the row of
// activations.
struct Reduced {
  end: u32,           // outputs of this part and those before it
  begin: u32,         // and of those before it
  sums: u32,          // value of the first split's sums
  sums_stride: u32,   // from row to row
  split_stride: u32,
  splits: u32,
  out: u32,           // value of the slot that row 0 and output 0 write
  out_stride: u32,
  activation: u32,
  scales: u32,        // vec4 of the factors of packed rows
  pad: array<u32, 2>,
}
@group(0) @binding(3) var<storage, read> table: array<Reduced>;
@group(0) @binding(4) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let at = workgroup.x * kWorkgroup + thread;
  if (at >= table[kParts - 1u].end) { return; }
  var i = 0u;
  while (at >= table[i].end) { i++; }
  let part = table[i];
  let first = part.sums + workgroup.y * part.sums_stride + at - part.begin;
  var sum = 0.0;
  for (var split = 0u; split < part.splits; split++) { sum += sums[first + split * part.split_stride]; }
  if (kHalves) { sum *= half_factor(part.scales, workgroup.y); }
  let out = part.out + workgroup.y * part.out_stride + at - part.begin;
  if (part.activation == kAccumulate) {
    set_act_f32(out, act_f32(out) + sum);
  } else {
    set_act_f32(out, activate(sum, part.activation));
  }
}
