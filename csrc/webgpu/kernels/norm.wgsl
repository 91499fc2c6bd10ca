// out = LayerNorm(x) for the rows that the head needs: all of them, or the last of each sequence.
//
// weights: the norm's vectors. act: x in; out as float32, int8 or both. A workgroup takes kChunk quads of an output row
// (workgroup.x the row, workgroup.y the chunk) and the statistics of all of it.
fn run(workgroup: vec3<u32>, thread: u32) {
  let out_row = workgroup.x;
  var row = out_row;
  if (!kAllRows && !kOneRow) {
    let sequence = params[1u + kRows + out_row];
    row = sequence.x + sequence.y - 1u;
  }
  let wanted = workgroup.y * kChunk + thread;
  let exists = wanted < kQuads && thread < kChunk;
  let quad = select(0u, wanted, exists);
  let weight = weight_vec4(kNormWeight + quad);
  let bias = weight_vec4(kNormBias + quad);
  let at = kX + row * kXStride;
  let x = act_vec4(at + quad);
  let value = normed(x, row_stats(act_quads(at, thread), act_f32(4u * at), thread), weight, bias, quad);
  if (exists && kHasValues) { act[kValues + out_row * kXStride + quad] = bitcast<vec4<u32>>(value); }
  let quantized = quantize_quad(select(vec4(0.0), value, exists));
  if (exists && kHasCodes) { store_quad(kCodes + out_row * (kXStride / 4u), kHeads + out_row * (kXStride / 8u), kXStride / 8u, quad, quantized); }
}
