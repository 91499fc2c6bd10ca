// out = activation(weight . in), or out += weight . in, for many rows of activations and several matrices ("parts") at once.
//
// weights: the packed rows of all parts. Inputs: of act (float32), or of halves (float16: half_tiles.wgsl); outputs float32.
// A workgroup makes a tile of kTileRows rows (workgroup.y) by kTileOuts outputs of one part, kStep inputs at a time; a weight is
// decoded once for kTileRows rows. What is beyond the matrix in a tile is computed and not stored; beyond the inputs weights are
// zero. Sums are float32.
//
// Where the tiles are too few to fill the device, several workgroups ("splits") share one: each sums over some of the inputs,
// its sums go to the program's memory of sums, and reduce.wgsl adds up. So do the sums of what becomes float16. The others go
// straight to the outputs.
struct Part {
  end: u32,           // workgroups of this part and those before it
  begin: u32,         // and of those before it
  kind: u32,          // how its weights are decoded
  weights: u32,       // vec4 of the first row
  stride: u32,        // from row to row, in vec4
  units: u32,         // of a row: 32 values, or 8 where the weights are floats
  rows: u32,
  input: u32,         // vec4 of the input: of its first row, or of its tiles
  input_stride: u32,  // of a row, in vec4
  scales: u32,        // vec4 of the factors of packed rows
  out: u32,           // value of the slot, or of the sums, that row 0 writes
  out_stride: u32,    // in values
  activation: u32,
  of_head: u32,       // 1: the rows are those that the head works on
  to_sums: u32,       // 1: unfinished, to the sums
  splits: u32,
  split_stride: u32,  // from a split's sums to the next one's, in values
  steps_each: u32,    // of a split
  steps: u32,         // of all
  scale: f32,         // what the weights are multiplied with, as float16
  unscale: f32,       // and their sums
  first: u32,         // filled in: first row of this workgroup's tile
  step: u32,          // first step
  last: u32,          // the one after its last step
}

@group(0) @binding(4) var<storage, read_write> sums: array<f32>;

// Rows of activations that there are.
fn rows_of(part: Part) -> u32 {
  return select(params[0].x, params[0].z, part.of_head == 1u);
}

// `out` is a row of the part, `row` one of the `rows` of activations; `factor` undoes the scales of both operands.
fn store_sum(part: Part, row: u32, rows: u32, out: u32, sum: f32, factor: f32) {
  let at = part.out + row * part.out_stride + out;
  if (part.to_sums == 1u) {
    sums[at] = sum;  // whole tiles have room there
  } else if (row < rows && out < part.rows) {
    if (part.activation == kAccumulate) {
      set_act_f32(at, act_f32(at) + sum * factor);
    } else {
      set_act_f32(at, activate(sum * factor, part.activation));
    }
  }
}
