// What undoes the scales of a packed row and of the weights.
fn half_factor(scales: u32, row: u32) -> f32 {
  return act_f32(4u * scales + row) * (1.0 / kWeightScale);
}
