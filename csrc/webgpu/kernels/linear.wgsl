// out = activation(weight . in), or out += weight . in, for several matrices ("parts") at once.
//
// weights: the packed rows of all parts. act: inputs as float32 or int8; outputs as float32, or int8 where kQuantizeOut.
// A workgroup takes some rows of one part (part_of, printed by program_linear.cpp) for kTile rows of activations
// (workgroup.y); `lanes` neighbouring threads share a matrix row and add up their sums at the end. How a row is read is the
// part's kind: linear_quant.wgsl or linear_float.wgsl, one instance for each type, width and precision.
// int8 path: int32 sums of 32 products, then float32. float path: float32 fused or unfused multiply-add, order by lanes.
struct Part {
  kind: u32,
  weights: u32,    // vec4 of the first row
  rows: u32,
  first: u32,      // first row of this workgroup
  input: u32,      // vec4 of the input's first row: values or codes
  heads: u32,
  out: u32,        // vec4 of the output slot's values; of its codes where kQuantizeOut
  out_heads: u32,
  out_first: u32,  // value of the slot that row 0 writes
  out_stride: u32, // of the slot, in values
  activation: u32,
}

// Rows of activations that this program has: the last tile may be short.
fn row_exists(row: u32) -> bool {
  return kTile == 1u || row < select(params[0].x, params[0].z, kHeadRows);
}

fn store_sum(part: Part, row: u32, tile_row: u32, sum: f32) {
  let at = 4u * part.out + tile_row * part.out_stride + part.out_first + row;
  if (part.activation == kAccumulate) {
    set_act_f32(at, act_f32(at) + sum);
  } else {
    set_act_f32(at, activate(sum, part.activation));
  }
}

fn run(workgroup: vec3<u32>, thread: u32) {
  let part = part_of(workgroup.x);
  let tile = workgroup.y * kTile;
  switch (part.kind) {
    $KINDS
    default: {}
  }
}
