// out = activation(weight . in), or out += weight . in, for several matrices ("parts") at once.
//
// weights: the packed rows of all parts. act: inputs as float32 or int8; outputs as float32, or int8 where kQuantizeOut.
// A workgroup takes some rows of one part (part_of, printed by compile_linear.cpp) for kTile rows of activations
// (workgroup.y); `lanes` neighbouring threads share a matrix row and add up their sums at the end. How a row is read is the
// part's kind: linear_quant.wgsl or linear_float.wgsl, one instance for each type, width and precision.
// int8 path: int32 sums of 32 products, then float32. float path: float32 fused or unfused multiply-add, order by lanes.
fn run(workgroup: vec3<u32>, thread: u32) {
  let part = part_of(workgroup.x);
  let tile = workgroup.y * kTile;
  switch (part.kind) {
    $KINDS
    default: {}
  }
}
