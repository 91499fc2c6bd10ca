// tiles_product.wgsl with a plain loop instead of subgroup matrices, as in matmat_plain.wgsl.
@group(0) @binding(0) var<storage, read> tiles: array<f16>;

// Input k of the step of output `out` of the tile.
fn weight_half(part: Part, out: u32, step: u32, k: u32) -> f16 {
  return tiles[8u * weight_octet(part.weights, part.stride, part.first + out, step * (kStep / 8u) + k / 8u) + k % 8u];
}
fn multiply_slice(part: Part, slice_at: u32, step: u32, mine: ptr<function, Sums>, thread: u32) {
  for (var i = 0u; i < kSumsEach; i++) {
    let at = thread + i * kThreads;
    var sum = (*mine)[i];
    for (var k = 0u; k < kStep + params[0].w; k++) {
      sum += f32(slice[slice_at + at / kTileOuts * kRowHalves + k]) * f32(weight_half(part, at % kTileOuts, step, k));
    }
    (*mine)[i] = sum;
  }
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let part = part_of(workgroup.x, thread);
  let row = workgroup.y * kTileRows;
  load_factors(part, row, thread);
  var mine: Sums;
  var octets = load_octets(part, row, part.step, thread);
  for (var step = part.step; step < part.last; step++) {
    let slice_at = step % kSlices * kSliceHalves;
    if (kSlices == 1u) { workgroupBarrier(); }
    put_octets(slice_at, octets, thread);
    workgroupBarrier();
    octets = load_octets(part, row, min(step + 1u, part.last - 1u), thread);
    multiply_slice(part, slice_at, step, &mine, thread);
  }
  finish(part, row, &mine, thread);
}
