// What the slices have of matrix row `local` of the workgroup and row `m` of activations.
fn column_sum(local: u32, m: u32, rows: u32, slices: u32) -> f32 {
  let at = local / rows * slices * kTile * rows + m * rows + local % rows;
  var sum = 0.0;
  for (var slice = 0u; slice < slices; slice++) { sum += column_sums[at + slice * kTile * rows]; }
  return sum;
}
