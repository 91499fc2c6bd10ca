// shift_mix.wgsl for the rows of many sequences: h = LayerNorm(x); out_z = h + (h_prev - h) * lerp_z for each mix z; h_prev is
// the h of the sequence's previous token: recomputed, or for its first row from the state.
//
// weights: the norm's vectors, lerp [mixes][kWidth]. act: x in, the mixes out as float32, int8 or float16, or several of these.
// states: the h of each sequence's last token, [kWidth], read and replaced.
// One workgroup a row; thread t makes quads t, t + kWorkgroup, ... of every mix, so that the norms are computed once. The
// workgroup of a sequence's first row, the only reader of its state, writes the new state too. All float32.
// h of a row, this thread's quads.
fn normed_row(row: u32, thread: u32) -> Quads {
  let at = kX + row * kXStride;
  var x = act_quads(at, thread);
  let stats = row_stats(x, act_f32(4u * at), thread);
  for (var i = 0u; i < kPerThread; i++) {
    let quad = min(thread + i * kWorkgroup, kQuads - 1u);
    x[i] = normed(x[i], stats, weight_vec4(kNormWeight + quad), weight_vec4(kNormBias + quad), quad);
  }
  return x;
}

// The largest |value| of mix `number` of the row, whose lerp is at that vec4. All threads of the workgroup come here.
fn find_largest(number: u32, h: ptr<function, Quads>, previous: ptr<function, Quads>, lerp: u32, thread: u32) {
  var most = 0.0;
  for (var i = 0u; i < kPerThread; i++) {
    let quad = min(thread + i * kWorkgroup, kQuads - 1u);
    most = max(most, magnitude((*h)[i] + ((*previous)[i] - (*h)[i]) * weight_vec4(lerp + quad)));
  }
  note_largest(number, most, thread);
}

// Mix `number` of one quad; lerp and outputs as vec4 addresses. All threads of the workgroup come here.
fn make_mix(number: u32, row: u32, quad: u32, exists: bool, h: vec4<f32>, previous: vec4<f32>, lerp: u32, values: u32, codes: u32,
            heads: u32, half_rows: u32, scales: u32, has_values: bool, has_codes: bool, has_halves: bool) {
  let value = h + (previous - h) * weight_vec4(lerp + quad);
  if (exists && has_halves) {
    let exponent = half_exponent(number);
    store_half_quad(half_rows, kHalvesStride, row, quad, exponent, value);
    if (quad == 0u) { store_half_factor(4u * scales + row, exponent); }
  }
  if (exists && has_values) { act[values + row * kXStride + quad] = bitcast<vec4<u32>>(value); }
  if (has_codes) {
    let quantized = quantize_quad(select(vec4(0.0), value, exists));
    if (exists) { store_quad(codes + row * (kXStride / 4u), heads + row * (kXStride / 8u), kXStride / 8u, quad, quantized); }
  }
}

fn run(workgroup: vec3<u32>, thread: u32) {
  let row = workgroup.x;
  let sequence = sequences[params[1u + row].y];
  if (sequence.y == 0u) { return; }
  var h = normed_row(row, thread);
  var previous = Quads();
  if (row == sequence.x) {
    for (var i = 0u; i < kPerThread; i++) { previous[i] = old_state(sequence, min(thread + i * kWorkgroup, kQuads - 1u)); }
    var last = h;
    if (sequence.y > 1u) { last = normed_row(sequence.x + sequence.y - 1u, thread); }
    for (var i = 0u; i < kPerThread; i++) {
      let quad = thread + i * kWorkgroup;
      if (quad < kQuads) { set_state(sequence, quad, last[i]); }
    }
  } else {
    previous = normed_row(row - 1u, thread);
  }
  $LARGEST
  for (var i = 0u; i < kPerThread; i++) {
    let wanted = thread + i * kWorkgroup;
    let exists = wanted < kQuads;
    let quad = min(wanted, kQuads - 1u);
    $MIXES
  }
}
