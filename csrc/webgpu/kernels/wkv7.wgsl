// RWKV-7's time mix after its input projections, for one token and one head (N = kHeadSize channels):
//   w = exp(-exp(-1/2) sigmoid(w0 + lora_w));  a = sigmoid(a0 + lora_a);  g = lora_g
//   v = v + (v_first - v) sigmoid(v0 + lora_v);   first layer: v_first = v
//   kk = k * k_k / max(|k * k_k|, 1e-12);  k = k (1 + (a - 1) k_a)
//   S = S diag(w) - (S kk)(kk a)^T + v k^T;  y = S r
//   out = (groupnorm(y) + v sum(r k r_k)) g
// lora_z = z2 . hidden_z comes from a linear dispatch before this one.
//
// weights: w0 a0 v0 k_k k_a r_k and the group norm [C]. act: r k v lora_w lora_a lora_v lora_g v_first [C] in; out as float32
// or int8. state: S of this layer as [H][key][value], float32, read and replaced.
// One workgroup a head, kGroups threads a value: thread (i, group) has the keys group * kKeys ... of S's row i in registers; the
// first group's threads also make the channel's vectors. All float32.
const kKeyQuads = kKeys / 4u;

var<workgroup> partial_kk: array<f32, kWorkgroup>;
var<workgroup> partial_y: array<f32, kWorkgroup>;
var<workgroup> head_v: array<f32, kHeadSize>;
var<workgroup> head_out: array<f32, kHeadSize>;

fn run(workgroup: vec3<u32>, thread: u32) {
  let head = workgroup.x;
  let i = thread % kHeadSize;
  let group = thread / kHeadSize;
  let channel = head * kHeadSize + i;
  let first_quad = group * kKeyQuads;
  let state_at = head * kHeadSize * kHeadSize + group * kKeys * kHeadSize + i;
  var s: array<vec4<f32>, kKeyQuads>;
  for (var j = 0u; j < kKeyQuads; j++) {
    let at = state_at + 4u * j * kHeadSize;
    s[j] = vec4(old_state(at), old_state(at + kHeadSize), old_state(at + 2u * kHeadSize), old_state(at + 3u * kHeadSize));
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
  var sums = vec2(0.0);  // |k k_k|^2, sum of r k r_k
  var gate = 0.0;
  if (group == 0u) {
    let r = channel_act(kR, channel);
    var k = channel_act(kK, channel);
    var v = channel_act(kV, channel);
    let a = sigmoid(a0 + channel_act(kLoraA, channel));
    let w = exp(-0.6065306597126334 * sigmoid(w0 + channel_act(kLoraW, channel)));
    gate = channel_act(kLoraG, channel);
    if (kFirstLayer) {
      set_act_f32(4u * kVFirst + channel, v);
    } else {
      v += (channel_act(kVFirst, channel) - v) * sigmoid(v0 + channel_act(kLoraV, channel));
    }
    let kk = k * k_k;
    k *= 1.0 + (a - 1.0) * k_a;
    head_r[i >> 2u][i & 3u] = r;
    head_w[i >> 2u][i & 3u] = w;
    head_k[i >> 2u][i & 3u] = k;
    head_kk[i >> 2u][i & 3u] = kk;
    head_kk_a[i >> 2u][i & 3u] = kk * a;
    head_v[i] = v;
    sums = vec2(kk * kk, r * k * r_k);
  }
  start_workgroup_sum(sums);
  workgroupBarrier();

  var s_kk = 0.0;
  for (var j = 0u; j < kKeyQuads; j++) { s_kk += dot(s[j], head_kk[first_quad + j]); }
  partial_kk[thread] = s_kk;
  workgroupBarrier();
  sums = finish_workgroup_sum();
  let inverse = 1.0 / max(sqrt(sums.x), 1e-12);
  s_kk = 0.0;
  for (var l = 0u; l < kGroups; l++) { s_kk += partial_kk[l * kHeadSize + i]; }
  s_kk *= inverse * inverse;  // of kk here, and of kk a below
  let v_i = head_v[i];
  var y = 0.0;
  for (var j = 0u; j < kKeyQuads; j++) {
    let q = first_quad + j;
    s[j] = s[j] * head_w[q] - s_kk * head_kk_a[q] + v_i * head_k[q];
    y += dot(s[j], head_r[q]);
  }
  partial_y[thread] = y;
  // Early: the stores are under way while the rest is computed.
  for (var j = 0u; j < kKeyQuads; j++) {
    let at = state_at + 4u * j * kHeadSize;
    set_state(at, s[j].x);
    set_state(at + kHeadSize, s[j].y);
    set_state(at + 2u * kHeadSize, s[j].z);
    set_state(at + 3u * kHeadSize, s[j].w);
  }
  workgroupBarrier();
  // Group norm from one reduction: sums of y - y_0 and its square, as in layer_norm.wgsl.
  var y_0 = 0.0;
  y = 0.0;
  for (var l = 0u; l < kGroups; l++) {
    y_0 += partial_y[l * kHeadSize];
    y += partial_y[l * kHeadSize + i];
  }
  let shifted = select(0.0, y - y_0, group == 0u);
  let moments = workgroup_sum(vec2(shifted, shifted * shifted)) / f32(kHeadSize);
  let variance = max(moments.y - moments.x * moments.x, 0.0);
  if (group == 0u) {
    let out = ((shifted - moments.x) * inverseSqrt(variance + kEpsilon) * norm_weight + norm_bias + v_i * sums.y) * gate;
    head_out[i] = out;
    if (kWriteValues) { set_act_f32(4u * kOut + channel, out); }
  }
  workgroupBarrier();
  $QUANTIZE
}
