// h = LayerNorm(x); out_z = h + (h_prev - h) * lerp_z for each mix z; h_prev is the h of the sequence's previous token.
//
// weights: the norm's vectors, lerp [kMixes][kWidth]. act: x in, the mixes out as float32, int8 or both.
// state: the h of the sequence's last token, [kWidth], read and replaced.
// A workgroup takes kChunk quads of a row (workgroup.x the row, workgroup.y the chunk) and the statistics of all of it; thread
// t makes quad t % kChunk of mix t / kChunk. It recomputes the previous row's h; the first row takes it from the state. The
// first row's workgroups, each the only reader of its chunk of the state, also write the new state, after all have read.
struct Mix {
  lerp: u32,        // vec4 in the weights
  values: u32,      // vec4 of row 0
  codes: u32,
  heads: u32,
  has_values: bool,
  has_codes: bool,
}

$MIXES

fn slot_stats(row: u32, thread: u32) -> vec2<f32> {
  let at = kX + row * kXStride;
  return row_stats(act_quads(at, thread), act_f32(4u * at), thread);
}

// `rows` are (first row, rows) of the sequence, workgroup.x is a row of it.
fn mix_chunk(workgroup: vec3<u32>, rows: vec2<u32>, thread: u32) {
  let row = rows.x + workgroup.x;
  let mix = mix_of(thread / kChunk);
  let wanted = workgroup.y * kChunk + thread % kChunk;
  let exists = wanted < kQuads && thread < kMixes * kChunk;
  let quad = select(0u, wanted, exists);
  let weight = weight_vec4(kNormWeight + quad);
  let bias = weight_vec4(kNormBias + quad);
  let lerp = weight_vec4(mix.lerp + quad);
  let x = act_vec4(kX + row * kXStride + quad);
  var previous = old_state(quad);
  let stats = slot_stats(row, thread);
  let h = normed(x, stats, weight, bias, quad);
  if (workgroup.x == 0u) {
    storageBarrier();
    var last = h;
    if (rows.y > 1u) {
      let last_row = rows.x + rows.y - 1u;
      last = normed(act_vec4(kX + last_row * kXStride + quad), slot_stats(last_row, thread), weight, bias, quad);
    }
    if (exists && thread < kChunk) { set_state(quad, last); }
  } else {
    previous = normed(act_vec4(kX + (row - 1u) * kXStride + quad), slot_stats(row - 1u, thread), weight, bias, quad);
  }
  let value = h + (previous - h) * lerp;
  if (exists && mix.has_values) { act[mix.values + row * kXStride + quad] = bitcast<vec4<u32>>(value); }
  let quantized = quantize_quad(select(vec4(0.0), value, exists));
  if (exists && mix.has_codes) { store_quad(mix.codes + row * (kXStride / 4u), mix.heads + row * (kXStride / 8u), kXStride / 8u, quad, quantized); }
}
