// Undoes the scales of the packed row and of the weights.
fn store_half_sum(part: Part, row: u32, out: u32, sum: f32) {
  store_sum(part, row, out, sum * act_f32(4u * part.scales + row) * (1.0 / kWeightScale));
}
