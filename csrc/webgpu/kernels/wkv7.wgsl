// RWKV-7's time mix after its input projections, for one head (N = kHeadSize channels) of one sequence:
//   w = exp(-exp(-1/2) sigmoid(w0 + w2 w_hidden));  a = sigmoid(a0 + a2 a_hidden);  g = g2 g_hidden
//   v = v + (v_first - v) sigmoid(v0 + v2 v_hidden);   layer 0: v_first = v
//   kk = k * k_k / max(|k * k_k|, 1e-12);  k = k (1 + (a - 1) k_a)
//   S = S diag(w) - (S kk)(kk a)^T + v k^T;  y = S r
//   out = (groupnorm(y) + v sum(r k r_k)) g
//
// weights: w2 a2 v2 g2 [C][rank], w0 a0 v0 k_k k_a r_k and the group norm [C]. act: r k v [C], hidden [rank], v_first in;
// out as float32 or int8. state: S of this layer as [H][key][value], float32, read and replaced.
// One workgroup a head, kGroups threads a value: thread (i, group) holds the keys group * kKeys ... of S's row i in registers
// for all of the sequence's tokens. For the LoRA products kGroups neighbouring threads share a channel. All float32.
@group(1) @binding(0) var<storage, read_write> state: array<f32>;

var<workgroup> partial: array<f32, 4u * kWorkgroup>;
var<workgroup> lora: array<f32, 4u * kHeadSize>;  // w, a, v, g
var<workgroup> head_r: array<f32, kHeadSize>;
var<workgroup> head_w: array<f32, kHeadSize>;
var<workgroup> head_k: array<f32, kHeadSize>;
var<workgroup> head_v: array<f32, kHeadSize>;
var<workgroup> head_kk: array<f32, kHeadSize>;  // not yet normalized
var<workgroup> head_a: array<f32, kHeadSize>;
var<workgroup> head_bonus: array<f32, kHeadSize>;  // r k r_k
var<workgroup> head_y: array<f32, kHeadSize>;

fn sigmoid(x: f32) -> f32 {
  return 1.0 / (1.0 + exp(-x));
}

// A [C] vector of the weights, by its vec4 address.
fn channel_weight(vector: u32, channel: u32) -> f32 {
  return bitcast<f32>(weight_word(4u * vector + channel));
}

fn run(workgroup: vec3<u32>, thread: u32) {
  let head = workgroup.x;
  let i = thread % kHeadSize;
  let group = thread / kHeadSize;
  let channel = head * kHeadSize + i;
  let first_key = group * kKeys;
  let state_at = head * kHeadSize * kHeadSize + i;
  var s: array<f32, kKeys>;
  for (var j = 0u; j < kKeys; j++) {
    if (kExact || first_key + j < kHeadSize) { s[j] = state[state_at + (first_key + j) * kHeadSize]; }
  }
  // Only the first group's threads use these.
  let w0 = channel_weight(kW0, channel);
  let a0 = channel_weight(kA0, channel);
  let v0 = channel_weight(kV0, channel);
  let k_k = channel_weight(kKK, channel);
  let k_a = channel_weight(kKA, channel);
  let r_k = channel_weight(kRK, channel);
  let norm_weight = channel_weight(kNormWeight, channel);
  let norm_bias = channel_weight(kNormBias, channel);
  let rows = sequence_rows();
  for (var t = 0u; t < rows.y; t++) {
    let row = rows.x + t;
    // Loads that do not depend on the LoRA come first.
    var r = 0.0;
    var k = 0.0;
    var v = 0.0;
    var v_first = 0.0;
    if (group == 0u) {
      r = act_f32(4u * (kR + row * kStride) + channel);
      k = act_f32(4u * (kK + row * kStride) + channel);
      v = act_f32(4u * (kV + row * kStride) + channel);
      if (!kFirstLayer) { v_first = act_f32(4u * (kVFirst + row * kStride) + channel); }
    }
    let lora_channel = head * kHeadSize + thread / kGroups;
    let lane = thread % kGroups;
    partial[thread] = lora_w(lora_channel, lane, row);
    partial[kWorkgroup + thread] = lora_a(lora_channel, lane, row);
    if (!kFirstLayer) { partial[2u * kWorkgroup + thread] = lora_v(lora_channel, lane, row); }
    partial[3u * kWorkgroup + thread] = lora_g(lora_channel, lane, row);
    workgroupBarrier();
    for (var q = thread; q < 4u * kHeadSize; q += kWorkgroup) {
      var sum = 0.0;
      let at = (q / kHeadSize) * kWorkgroup + (q % kHeadSize) * kGroups;
      for (var l = 0u; l < kGroups; l++) { sum += partial[at + l]; }
      lora[q] = sum;
    }
    workgroupBarrier();

    var gate = 0.0;
    if (group == 0u) {
      let a = sigmoid(a0 + lora[kHeadSize + i]);
      gate = lora[3u * kHeadSize + i];
      if (kFirstLayer) {
        set_act_f32(4u * (kVFirst + row * kStride) + channel, v);
      } else {
        v += (v_first - v) * sigmoid(v0 + lora[2u * kHeadSize + i]);
      }
      head_kk[i] = k * k_k;
      k *= 1.0 + (a - 1.0) * k_a;
      head_w[i] = exp(-0.6065306597126334 * sigmoid(w0 + lora[i]));
      head_r[i] = r;
      head_k[i] = k;
      head_v[i] = v;
      head_a[i] = a;
      head_bonus[i] = r * k * r_k;
    }
    workgroupBarrier();

    var squares = 0.0;
    var bonus = 0.0;
    for (var j = 0u; j < kHeadSize; j++) {
      squares += head_kk[j] * head_kk[j];
      bonus += head_bonus[j];
    }
    let inverse = 1.0 / max(sqrt(squares), 1e-12);
    var s_kk = 0.0;
    for (var j = 0u; j < kKeys; j++) {
      if (kExact || first_key + j < kHeadSize) { s_kk += s[j] * head_kk[first_key + j]; }
    }
    partial[thread] = s_kk * inverse;  // thread = group * kHeadSize + i
    workgroupBarrier();
    s_kk = 0.0;
    for (var l = 0u; l < kGroups; l++) { s_kk += partial[l * kHeadSize + i]; }
    let v_i = head_v[i];
    var y = 0.0;
    for (var j = 0u; j < kKeys; j++) {
      let key = first_key + j;
      if (kExact || key < kHeadSize) {
        s[j] = s[j] * head_w[key] - s_kk * (head_kk[key] * inverse * head_a[key]) + v_i * head_k[key];
        y += s[j] * head_r[key];
      }
    }
    partial[kWorkgroup + thread] = y;
    workgroupBarrier();
    if (group == 0u) {
      y = 0.0;
      for (var l = 0u; l < kGroups; l++) { y += partial[kWorkgroup + l * kHeadSize + i]; }
      head_y[i] = y;
    }
    workgroupBarrier();
    if (group == 0u) {
      var sum = 0.0;
      for (var j = 0u; j < kHeadSize; j++) { sum += head_y[j]; }
      let mean = sum / f32(kHeadSize);
      var variance = 0.0;
      for (var j = 0u; j < kHeadSize; j++) { variance += (head_y[j] - mean) * (head_y[j] - mean); }
      let normed = (y - mean) * inverseSqrt(variance / f32(kHeadSize) + kEpsilon) * norm_weight + norm_bias;
      let out = (normed + v_i * bonus) * gate;
      head_r[i] = out;
      if (kWriteValues) { set_act_f32(4u * (kOut + row * kStride) + channel, out); }
    }
    workgroupBarrier();
    $QUANTIZE
  }
  for (var j = 0u; j < kKeys; j++) {
    if (kExact || first_key + j < kHeadSize) { state[state_at + (first_key + j) * kHeadSize] = s[j]; }
  }
}
