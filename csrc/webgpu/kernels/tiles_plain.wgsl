// Input k of the step of output `out` of the tile, for matmat_plain.wgsl.
fn weight_half(part: Part, out: u32, step: u32, k: u32) -> f16 {
  return tiles[8u * weight_octet(part.weights, part.stride, part.first + out, step * (kStep / 8u) + k / 8u) + k % 8u];
}
