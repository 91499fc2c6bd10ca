// Two or four words of float16 into a slice, `at` its first half.
fn put_quad(at: u32, quad: vec2<u32>) {
  let a = bitcast<vec2<f16>>(quad.x);
  let b = bitcast<vec2<f16>>(quad.y);
  slice[at] = a.x;
  slice[at + 1u] = a.y;
  slice[at + 2u] = b.x;
  slice[at + 3u] = b.y;
}
fn put_octet(octet_at: u32, octet: vec4<u32>) {
  let at = select(octet_at, octet_at & 0xfffffff8u, kPutsMasked);  // the same: octets are put at multiples of eight
  put_quad(at, octet.xy);
  put_quad(at + 4u, octet.zw);
}
