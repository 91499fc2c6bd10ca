// Sixteen weights from codes to float16; scale and offset are within float16 and so is what becomes of the codes: that is how
// the matrix's scale is chosen (core/magnitude.h). A code c is -128..127: 1024 + 128 + c is a float16 whose low byte is c + 128,
// so that two bytes become two halves with one mask.
fn code_halves(codes: u32, scale: vec2<f16>, offset: vec2<f16>) -> vec2<u32> {
  let biased = codes ^ 0x80808080u;
  let even = bitcast<vec2<f16>>((biased & 0x00ff00ffu) | 0x64006400u) - vec2<f16>(1152.0h);
  let odd = bitcast<vec2<f16>>(((biased >> 8u) & 0x00ff00ffu) | 0x64006400u) - vec2<f16>(1152.0h);
  let a = fma(even, scale, offset);
  let b = fma(odd, scale, offset);
  return vec2(bitcast<u32>(vec2(a.x, b.x)), bitcast<u32>(vec2(a.y, b.y)));
}
fn put_codes(at: u32, codes: vec4<u32>, scale: f32, offset: f32) {
  let s = vec2<f16>(f16(scale));
  let o = vec2<f16>(f16(offset));
  put_octet(at, vec4(code_halves(codes.x, s, o), code_halves(codes.y, s, o)));
  put_octet(at + 8u, vec4(code_halves(codes.z, s, o), code_halves(codes.w, s, o)));
}
