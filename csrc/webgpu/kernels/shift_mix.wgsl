// h = LayerNorm(x); out_z = h + (h_prev - h) * lerp_z for each mix z; h_prev is the h of the sequence's previous token.
//
// weights: the norm's vectors, lerp [mixes][kWidth]. act: x in, the mixes out as float32, int8 or both.
// state: the h of the sequence's last token, [kWidth], read and replaced.
// One workgroup a row; it recomputes the previous row's h, the first row takes it from the state. The first row's workgroup,
// which is the state's only reader, also writes the new state, so that no other workgroup can come before the read.
@group(1) @binding(0) var<storage, read_write> state: array<vec4<f32>>;

fn norm_vector(at: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(weights[at]);
}

fn run(workgroup: vec3<u32>, thread: u32) {
  let rows = sequence_rows();
  let row = rows.x + workgroup.x;
  let weight = weight_quads(kNormWeight, thread);
  let bias = weight_quads(kNormBias, thread);
  let x = act_quads(kX + row * kXStride, thread);
  $LERPS
  var previous: Quads;
  if (workgroup.x == 0u) {
    for (var i = 0u; i < kPerThread; i++) {
      let quad = thread + i * kWorkgroup;
      if (quad < kQuads) { previous[i] = state[quad]; }
    }
  }
  let h = layer_norm(x, thread, weight, bias);
  if (workgroup.x == 0u) {
    var last = h;
    if (rows.y > 1u) { last = layer_norm(act_quads(kX + (rows.x + rows.y - 1u) * kXStride, thread), thread, weight, bias); }
    for (var i = 0u; i < kPerThread; i++) {
      let quad = thread + i * kWorkgroup;
      if (quad < kQuads) { state[quad] = last[i]; }
    }
  } else {
    previous = layer_norm(act_quads(kX + (row - 1u) * kXStride, thread), thread, weight, bias);
  }
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    let exists = quad < kQuads;
    let at = select(0u, quad, exists);
    $MIXES
  }
}
