fn run(workgroup: vec3<u32>, thread: u32) {
  mix_chunk(workgroup, sequence_rows(), thread);
}
