// out = activation(weight . in), or out += weight . in, for many rows of activations and several matrices ("parts") at once.
//
// weights: the packed rows of all parts. act: inputs (float32, or float16 packed by pack_halves.wgsl); outputs float32.
// A workgroup makes a tile of kTileRows rows (workgroup.y) by kTileOuts outputs of one part, kStep inputs at a time: both operands' slices go to workgroup memory, the weights decoded on the way,
// and are multiplied from there. A weight is decoded once for kTileRows rows. What is beyond the matrix in a tile is
// computed and not stored; beyond the inputs weights are zero. Sums are float32.
struct Part {
  end: u32,           // workgroups of this part and those before it
  begin: u32,         // and of those before it
  weights: u32,       // vec4 of the first row
  stride: u32,        // from row to row, in vec4
  units: u32,         // of a row: 32 values, or 8 where the weights are floats
  rows: u32,
  input: u32,         // vec4 of the input's first row
  input_stride: u32,  // from row to row, in vec4
  scales: u32,        // vec4 of the factors of packed rows
  steps: u32,
  out: u32,           // vec4 of the output slot's values
  out_first: u32,     // value of the slot that row 0 writes
  out_stride: u32,    // of the slot, in values
  activation: u32,
  of_head: u32,       // 1: the rows are those that the head works on
  first: u32,         // first row of this workgroup's tile: filled in here
}
@group(0) @binding(3) var<storage, read> parts: array<Part>;

fn part_of(workgroup: u32) -> Part {
  var i = 0u;
  while (workgroup >= parts[i].end) { i++; }
  var part = parts[i];
  part.first = (workgroup - part.begin) * kTileOuts;
  return part;
}

// `out` is a row of the part, `row` one of the activations.
fn store_sum(part: Part, row: u32, out: u32, sum: f32) {
  if (row >= select(params[0].x, params[0].z, part.of_head == 1u) || out >= part.rows) { return; }
  let at = 4u * part.out + row * part.out_stride + part.out_first + out;
  if (part.activation == kAccumulate) {
    set_act_f32(at, act_f32(at) + sum);
  } else {
    set_act_f32(at, activate(sum, part.activation));
  }
}
