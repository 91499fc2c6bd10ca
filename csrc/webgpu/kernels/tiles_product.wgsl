// The product of matmat.wgsl where the weights are float16 tiles in memory (weight_tiles.wgsl): both operands are loaded from
// there, with no slice and no barrier between steps. Of a Part, `weights` is the vec4 of the first tile and `stride` a row's
// octets; kind and units do not matter. The sums are those of the other product, to the bit: the same halves in the same order.
@group(0) @binding(0) var<storage, read> tiles: array<f16>;

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32$SUBGROUP) {
  let part = part_of(workgroup.x);
  let row = workgroup.y * kTileRows;
  if (part.to_sums == 0u) { load_factors(part, row, thread); }
  $START
  $MULTIPLY
  $FINISH
}
