// out = LayerNorm(x) for the rows that the head needs: all of them, or the last of each sequence.
//
// weights: the norm's vectors. act: x in; out as float32 and int8. One workgroup an output row.
fn norm_vector(at: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(weights[at]);
}

fn run(workgroup: vec3<u32>, thread: u32) {
  let out_row = workgroup.x;
  var row = out_row;
  if (!kAllRows) {
    let sequence = params[1u + out_row];
    row = sequence.x + sequence.y - 1u;
  }
  let x = act_quads(kX + row * kXStride, thread);
  let h = layer_norm(x, thread, weight_quads(kNormWeight, thread), weight_quads(kNormBias, thread));
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    let exists = quad < kQuads;
    let at = select(0u, quad, exists);
    $STORE
  }
}
