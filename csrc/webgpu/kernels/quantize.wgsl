// Codes and heads of a float32 slot, where its producer could not write them: x = d * code per 32 values.
// A thread a quad, eight a block; workgroup.y is the row. kWidth is a multiple of 32.
fn run(workgroup: vec3<u32>, thread: u32) {
  let quad = workgroup.x * kWorkgroup + thread;
  let row = workgroup.y;
  let exists = quad < kWidth / 4u;
  let quantized = quantize_quad(act_vec4(kX + row * kXStride + select(0u, quad, exists)));
  if (exists) { store_quad(kCodes + row * (kXStride / 4u), kHeads + row * (kXStride / 8u), kXStride / 8u, quad, quantized); }
}
