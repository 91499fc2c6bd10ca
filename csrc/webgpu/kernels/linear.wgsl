// out = activation(weight . in), or out += weight . in, for several matrices ("parts") at once.
//
// weights: the packed rows of all parts. act: inputs as float32 or int8; outputs as float32, or int8 where they are quantized here (linear_finish_quantized.wgsl).
// A workgroup takes some rows of one part (part_of: part_text.h) for kTile rows of activations, which is one: columns.wgsl and matmat.wgsl
// take more. That it is written for several, and for a row that the compiler does not know (workgroup.y, 0), is worth 1.5 % of
// decode on an NVIDIA GPU (docs/kernels.md); the head is faster without. `lanes` threads, neighbours unless the layout has them apart, share a
// matrix row and add up their sums at the end. How a row is read is the part's kind: linear_quant.wgsl or linear_float.wgsl, one
// instance for each type, width and precision.
// int8 path: int32 sums of 32 products, then float32. float path: float32 fused or unfused multiply-add, order by lanes.
fn run(workgroup: vec3<u32>, thread: u32) {
  let part = part_of(workgroup.x);
  let tile = select(workgroup.y * kTile, 0u, kHeadRows);
  switch (part.kind) {
    $KINDS
    default: {}
  }
}
