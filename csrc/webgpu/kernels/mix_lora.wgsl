// For one token: shift_mix.wgsl, and with it the first LoRA matrices, hidden = activation(weight . mixed), which would else wait
// for a dispatch of their own. The workgroups behind the kChunks that mix each take some rows of one matrix: they make the whole
// mixed row once more, in workgroup memory, while their weights are on the way. kLanes neighbouring threads share a row; how it
// is read is the matrix's kind (mix_lora_kind.wgsl). The old state is read by all, so the new one goes to another buffer.
struct LoraRows {
  kind: u32,
  weights: u32,  // vec4 of row 0
  rows: u32,
  first: u32,    // first row of this workgroup
  lerp: u32,     // vec4
  out: u32,      // vec4 of the slot's values
  activation: u32,
}

var<workgroup> mixed: array<vec4<f32>, 2u * kOctets>;

// The mixed row into workgroup memory.
fn make_mixed(lerp_at: u32, thread: u32) {
  var previous: Quads;
  var lerp: Quads;
  var weight: Quads;
  var bias: Quads;
  let x = act_quads(kX, thread);
  for (var i = 0u; i < kPerThread; i++) {
    let quad = min(thread + i * kWorkgroup, kQuads - 1u);
    previous[i] = old_state(quad);
    lerp[i] = weight_vec4(lerp_at + quad);
    weight[i] = weight_vec4(kNormWeight + quad);
    bias[i] = weight_vec4(kNormBias + quad);
  }
  let stats = row_stats(x, act_f32(4u * kX), thread);
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    if (quad < kQuads) {
      let h = normed(x[i], stats, weight[i], bias[i], quad);
      mixed[quad] = h + (previous[i] - h) * lerp[i];
    }
  }
  if (kQuads % 2u == 1u && thread == 0u) { mixed[2u * kOctets - 1u] = vec4(0.0); }
  workgroupBarrier();
}

fn finish_lora(lora: LoraRows, row: u32, lane: u32, sum: f32) {
  let whole = group_sum(sum, kLanes);
  if (lane == 0u && row < lora.rows) { set_act_f32(4u * lora.out + row, activate(whole, lora.activation)); }
}

fn run(workgroup: vec3<u32>, thread: u32) {
  if (workgroup.y < kChunks) {
    mix_chunk(workgroup, thread);
  } else {
    let lora = lora_of(workgroup.y - kChunks);
    switch (lora.kind) {
      $KINDS
      default: {}
    }
  }
}
