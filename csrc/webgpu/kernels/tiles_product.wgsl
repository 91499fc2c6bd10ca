// The product of matmat.wgsl where the weights are float16 tiles in memory (weight_tiles.wgsl), by subgroup matrices: weights, the left
// operand, are loaded from there, activations, the right one, from workgroup memory (tiles_slices.wgsl). Of a Part, `weights` is the
// vec4 of the first tile and `stride` a row's octets; kind and units do not matter. The sums are those of the other product, to the
// bit: the same halves in the same order.
@group(0) @binding(0) var<storage, read> tiles: array<f16>;
const kTilesOfStep = kStep / 8u / kWeightTileOctets;

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32,
        @builtin(subgroup_id) subgroup: u32) {
  let part = part_of(workgroup.x, thread);
  let row = workgroup.y * kTileRows;
  let first_row = subgroup % kSubgroupsDown * kSubgroupRows;  // of the tile
  let first_out = part.first + subgroup / kSubgroupsDown * kSubgroupOuts;
  let weights_line = 8u * part.stride * kMatrixM;  // halves from some outputs' tiles to those of the outputs below
  let weights = 8u * part.weights + first_out / kMatrixM * weights_line;
  let last_tile = part.last * kTilesOfStep - 1u;
  $SUMS
  $FIRST
  var octets = load_octets(part, row, part.step, thread);
  for (var step = part.step; step < part.last; step++) {
    let slice_at = step % kSlices * kSliceHalves;
    let rows_at = slice_at + first_row * kRowHalves;
    if (kSlices == 1u) { workgroupBarrier(); }
    put_octets(slice_at, octets, thread);
    workgroupBarrier();
    octets = load_octets(part, row, min(step + 1u, part.last - 1u), thread);
    $MULTIPLY
  }
  $END
}
