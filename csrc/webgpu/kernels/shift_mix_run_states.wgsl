// workgroup.x is a row of the submit.
fn run(workgroup: vec3<u32>, thread: u32) {
  let of_row = sequences[params[1u + workgroup.x].y];
  if (of_row.y == 0u) { return; }
  sequence = of_row;
  mix_chunk(vec3(workgroup.x - of_row.x, workgroup.yz), of_row.xy, thread);
}
