// RWKV-7's time mix of one token (the formulas: wkv7.wgsl) without what needs a whole head at once, its group norm: that and the gate
// are where the output matrix is (mix_heads.wgsl). So a head's values are shared by several workgroups, and the gate's matrix, the
// largest of the second LoRA matrices, is read by others at the same time.
//
// weights: second LoRA matrices [C][rank] of a float type; w0 a0 v0 k_k k_a r_k and the group norm [C]. act: r k v [C] and
// the LoRAs' hidden [rank] in, v_first [C] in or out; out y, rest = bias + v sum(r k r_k), gate = g, gate_weight = weight g. state: S
// of this layer as [H][key][value], float32, read and replaced.
// Workgroups of kValues values of a head, each with all of its keys, come first. There kLanes neighbouring threads share a value, each
// with quads lane, lane + kLanes, ... of its keys; kChannelLanes neighbouring threads make a key's w, a and kk (each such workgroup
// those of the whole head). Then workgroups for the gate, kLanes threads a channel. All float32.
const kChannelLanes = kWorkgroup / kHeadSize;
const kKeyQuads = kHeadSize / 4u / kLanes;

fn lora_dot(octet: Octet, hidden: u32) -> f32 {
  return dot(octet.low, act_vec4(hidden)) + dot(octet.high, act_vec4(hidden + 1u));
}

fn run_values(workgroup: u32, thread: u32) {
  const kParts = kHeadSize / kValues;
  let head = workgroup / kParts;
  // Of the state: a value and some keys.
  let lane = thread % kLanes;
  let i = workgroup % kParts * kValues + thread / kLanes;
  let value_channel = head * kHeadSize + i;
  let state_at = head * kHeadSize * kHeadSize + i;
  // Of the vectors: a key.
  let key_lane = thread % kChannelLanes;
  let key = thread / kChannelLanes;
  let channel = head * kHeadSize + key;
  $LOADS
  var s: array<vec4<f32>, kKeyQuads>;
  for (var j = 0u; j < kKeyQuads; j++) {
    let at = state_at + 4u * (lane + j * kLanes) * kHeadSize;
    s[j] = vec4(old_state(at), old_state(at + kHeadSize), old_state(at + 2u * kHeadSize), old_state(at + 3u * kHeadSize));
  }
  let w0 = channel_weight(kW0, channel);
  let a0 = channel_weight(kA0, channel);
  let v0 = channel_weight(kV0, value_channel);
  let k_k = channel_weight(kKK, channel);
  let k_a = channel_weight(kKA, channel);
  let r_k = channel_weight(kRK, channel);
  let norm_bias = channel_weight(kNormBias, value_channel);
  let r = channel_act(kR, channel);
  var k = channel_act(kK, channel);
  var v = channel_act(kV, value_channel);
  let v_first = channel_act(kVFirst, value_channel);
  $SUMS
  let w = exp(-0.6065306597126334 * sigmoid(w0 + group_sum(sum_w, kChannelLanes)));
  let a = sigmoid(a0 + group_sum(sum_a, kChannelLanes));
  let kk = k * k_k;
  k *= 1.0 + (a - 1.0) * k_a;
  if (key_lane == 0u) {
    head_r[key >> 2u][key & 3u] = r;
    head_w[key >> 2u][key & 3u] = w;
    head_k[key >> 2u][key & 3u] = k;
    head_kk[key >> 2u][key & 3u] = kk;
    head_kk_a[key >> 2u][key & 3u] = kk * a;
  }
  start_workgroup_sum(select(vec2(0.0), vec2(kk * kk, r * k * r_k), key_lane == 0u));
  if (kFirstLayer) {
    if (lane == 0u) { set_act_f32(4u * kVFirst + value_channel, v); }
  } else {
    v += (v_first - v) * sigmoid(v0 + group_sum(sum_v, kLanes));
  }
  workgroupBarrier();

  let sums = finish_workgroup_sum();  // |k k_k|^2, sum of r k r_k
  let inverse = 1.0 / max(sqrt(sums.x), 1e-12);
  var s_kk = 0.0;
  for (var j = 0u; j < kKeyQuads; j++) { s_kk += dot(s[j], head_kk[lane + j * kLanes]); }
  s_kk = group_sum(s_kk, kLanes) * inverse * inverse;  // of kk here, and of kk a below
  var y = 0.0;
  for (var j = 0u; j < kKeyQuads; j++) {
    let q = lane + j * kLanes;
    s[j] = s[j] * head_w[q] - s_kk * head_kk_a[q] + v * head_k[q];
    y += dot(s[j], head_r[q]);
  }
  y = group_sum(y, kLanes);
  if (lane == 0u) {
    set_act_f32(4u * kY + value_channel, y);
    set_act_f32(4u * kRest + value_channel, norm_bias + v * sums.y);
  }
  for (var j = 0u; j < kKeyQuads; j++) {
    let at = state_at + 4u * (lane + j * kLanes) * kHeadSize;
    set_state(at, s[j].x);
    set_state(at + kHeadSize, s[j].y);
    set_state(at + 2u * kHeadSize, s[j].z);
    set_state(at + 3u * kHeadSize, s[j].w);
  }
}

fn run_gate(workgroup: u32, thread: u32) {
  let lane = thread % kLanes;
  let wanted = workgroup * kValues + thread / kLanes;
  let value_channel = min(wanted, kChannels - 1u);
  $GATE_LOADS
  let norm_weight = channel_weight(kNormWeight, value_channel);
  $GATE_SUMS
  let gate = group_sum(sum_g, kLanes);
  if (lane == 0u && wanted < kChannels) {
    set_act_f32(4u * kGate + wanted, gate);
    set_act_f32(4u * kGateWeight + wanted, gate * norm_weight);
  }
}

fn run(workgroup: vec3<u32>, thread: u32) {
  if (workgroup.x < kValueWorkgroups) {
    run_values(workgroup.x, thread);
  } else {
    run_gate(workgroup.x - kValueWorkgroups, thread);
  }
}
