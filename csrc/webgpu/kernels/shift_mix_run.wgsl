// One token.
fn run(workgroup: vec3<u32>, thread: u32) {
  mix_chunk(workgroup, vec2(0u, 1u), thread);
}
