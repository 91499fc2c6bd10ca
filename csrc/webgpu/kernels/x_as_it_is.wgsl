// The residual stream as its slot has it: a row's quads of this thread, and the row's first value.
fn x_quads(row: u32, thread: u32) -> Quads {
  return act_quads(kX + row * kXStride, thread);
}
fn first_x(row: u32) -> f32 {
  return act_f32(4u * (kX + row * kXStride));
}
fn move_x(row: u32, thread: u32, x: Quads) {}
