// RWKV-7's time mix after its input projections, for a crowd: one head (N = kHeadSize channels) of one of many sequences, which
// bring a token each. The formulas are those of wkv7.wgsl, wkv7_prepare.wgsl, wkv7_chunk.wgsl and wkv7_finish.wgsl.
//
// weights: w0 a0 v0 k_k k_a r_k and the group norm [C]. act, [C] a row: r k v v_first in, and lora_w lora_a lora_v lora_g if they are not
// sums (wkv7_lora.wgsl, wkv7_lora_sums.wgsl); out as float32, int8 or float16 (wkv7_halves.wgsl). states: S of this layer as [H][key][value], read and replaced.
// workgroup.x is the head, workgroup.y the sequence. What counts is that the state streams through: thread (q, group) holds values
// 4 q ... 4 q + 3 of keys group * kKeys ..., asked for before everything else; threads below N also make the channel's vectors.
// A sequence of more rows goes through one by one. All float32.
const kValueQuads = kHeadSize / 4u;
const kGroups = kWorkgroup / kValueQuads;
const kKeys = kHeadSize / kGroups;
const kKeyQuads = kKeys / 4u;

var<workgroup> partial_kk: array<vec4<f32>, kWorkgroup>;
var<workgroup> partial_y: array<vec4<f32>, kWorkgroup>;
var<workgroup> head_v: array<vec4<f32>, kValueQuads>;
var<workgroup> head_out: array<vec4<f32>, kValueQuads>;

fn run(workgroup: vec3<u32>, thread: u32) {
  let sequence = sequences[workgroup.y];
  if (sequence.y == 0u) { return; }
  let head = workgroup.x;
  let q = thread % kValueQuads;
  let group = thread / kValueQuads;
  let state_at = head * kHeadSize * kValueQuads + group * kKeys * kValueQuads + q;
  var s: array<vec4<f32>, kKeys>;
  for (var j = 0u; j < kKeys; j++) { s[j] = old_state(sequence, state_at + j * kValueQuads); }
  let makes_channel = thread < kHeadSize;
  let i = min(thread, kHeadSize - 1u);
  let channel = head * kHeadSize + i;
  for (var t = 0u; t < sequence.y; t++) {
    let number = sequence.x + t;
    let row = number * kStride;
    $EXPONENT
    var sums = vec2(0.0);  // |k k_k|^2, sum of r k r_k
    var gate = 0.0;
    if (makes_channel) {
      let r = channel_act(kR + row, channel);
      var k = channel_act(kK + row, channel);
      var v = channel_act(kV + row, channel);
      let a = sigmoid(channel_weight(kA0, channel) + lora_a(number, channel));
      let w = exp(-0.6065306597126334 * sigmoid(channel_weight(kW0, channel) + lora_w(number, channel)));
      gate = lora_g(number, channel);
      if (kFirstLayer) {
        set_act_f32(4u * (kVFirst + row) + channel, v);
      } else {
        let share = sigmoid(channel_weight(kV0, channel) + lora_v(number, channel));
        v += (channel_act(kVFirst + row, channel) - v) * share;
      }
      let kk = k * channel_weight(kKK, channel);
      k *= 1.0 + (a - 1.0) * channel_weight(kKA, channel);
      head_r[i >> 2u][i & 3u] = r;
      head_w[i >> 2u][i & 3u] = w;
      head_k[i >> 2u][i & 3u] = k;
      head_kk[i >> 2u][i & 3u] = kk;
      head_kk_a[i >> 2u][i & 3u] = kk * a;
      head_v[i >> 2u][i & 3u] = v;
      sums = vec2(kk * kk, r * k * channel_weight(kRK, channel));
    }
    sums = workgroup_sum(sums);
    let inverse = 1.0 / max(sqrt(sums.x), 1e-12);

    var s_kk = vec4(0.0);
    for (var j = 0u; j < kKeyQuads; j++) {
      let kk = head_kk[group * kKeyQuads + j];
      s_kk += s[4u * j] * kk.x + s[4u * j + 1u] * kk.y + s[4u * j + 2u] * kk.z + s[4u * j + 3u] * kk.w;
    }
    partial_kk[thread] = s_kk;
    workgroupBarrier();
    s_kk = vec4(0.0);
    for (var l = 0u; l < kGroups; l++) { s_kk += partial_kk[l * kValueQuads + q]; }
    s_kk *= inverse * inverse;  // of kk here, and of kk a below
    let v = head_v[q];
    var y = vec4(0.0);
    for (var j = 0u; j < kKeyQuads; j++) {
      let at = group * kKeyQuads + j;
      let w = head_w[at];
      let kk_a = head_kk_a[at];
      let k = head_k[at];
      let r = head_r[at];
      s[4u * j] = s[4u * j] * w.x - s_kk * kk_a.x + v * k.x;
      s[4u * j + 1u] = s[4u * j + 1u] * w.y - s_kk * kk_a.y + v * k.y;
      s[4u * j + 2u] = s[4u * j + 2u] * w.z - s_kk * kk_a.z + v * k.z;
      s[4u * j + 3u] = s[4u * j + 3u] * w.w - s_kk * kk_a.w + v * k.w;
      y += s[4u * j] * r.x + s[4u * j + 1u] * r.y + s[4u * j + 2u] * r.z + s[4u * j + 3u] * r.w;
    }
    partial_y[thread] = y;
    workgroupBarrier();
    var y_i = 0.0;
    if (makes_channel) {
      for (var l = 0u; l < kGroups; l++) { y_i += partial_y[l * kValueQuads + (i >> 2u)][i & 3u]; }
    }
    let mean = workgroup_sum(vec2(y_i, 0.0)).x / f32(kHeadSize);
    let centred = select(0.0, y_i - mean, makes_channel);
    let variance = workgroup_sum(vec2(centred * centred, 0.0)).x / f32(kHeadSize);
    if (makes_channel) {
      let normed = centred * inverseSqrt(variance + kEpsilon) * channel_weight(kNormWeight, channel) + channel_weight(kNormBias, channel);
      let out = (normed + head_v[i >> 2u][i & 3u] * sums.y) * gate;
      head_out[i >> 2u][i & 3u] = out;
      if (kHasValues) { set_act_f32(4u * (kOut + row) + channel, out); }
    }
    workgroupBarrier();
    $HALVES
    if (kHasCodes) {
      let quad = min(thread, kValueQuads - 1u);
      let quantized = quantize_quad(head_out[quad]);
      if (thread < kValueQuads) {
        store_quad(kOutCodes + row / 4u, kOutHeads + row / 8u, kStride / 8u, head * kValueQuads + quad, quantized);
      }
      workgroupBarrier();
    }
  }
  for (var j = 0u; j < kKeys; j++) { set_state(sequence, state_at + j * kValueQuads, s[j]); }
}
