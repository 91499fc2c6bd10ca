// The recurrence of RWKV-7's time mix over all rows of a sequence, for kValues of a head's N = kHeadSize values:
//   S = S diag(w) - (S kk)(kk a)^T + v k^T;  y = S r
//
// act, [C] a row: r w k kk (kk a) v, as wkv7_prepare.wgsl leaves them; y out. states: S of this layer as [H][key][value].
// workgroup.x is the head and the group of values, workgroup.y the sequence: S's rows need nothing of each other. kLanes
// neighbouring threads share a row of S: lane l keeps the quads of keys l, l + kLanes, ... of it in registers. Vectors of kTokens
// tokens at a time are staged in workgroup memory, loaded while those before them are worked on. The time is that of a chain of
// latencies, token after token: so a token's reads come before its sums, y is summed over the lanes together with the next
// token's S kk, and nothing branches before the end of a turn. All float32.
const kQuadsOfHead = kHeadSize / 4u;
const kKeyQuads = kQuadsOfHead / kLanes;
const kStaged = kTokens * kQuadsOfHead;                                // quads of one vector
const kLoads = (kStaged + kWorkgroup - 1u) / kWorkgroup;
const kStagedValues = kTokens * kValues / 4u;
const kValueLoads = (kStagedValues + kWorkgroup - 1u) / kWorkgroup;

var<workgroup> staged_r: array<vec4<f32>, kStaged>;
var<workgroup> staged_w: array<vec4<f32>, kStaged>;
var<workgroup> staged_k: array<vec4<f32>, kStaged>;
var<workgroup> staged_kk: array<vec4<f32>, kStaged>;
var<workgroup> staged_kk_a: array<vec4<f32>, kStaged>;
var<workgroup> staged_v: array<vec4<f32>, kStagedValues>;
var<workgroup> staged_y: array<f32, (kTokens + 1u) * kValues>;  // of the token before, and so on

fn run(workgroup: vec3<u32>, thread: u32) {
  let sequence = sequences[workgroup.y];
  if (sequence.y == 0u) { return; }
  let head = workgroup.x / (kHeadSize / kValues);
  let first_value = workgroup.x % (kHeadSize / kValues) * kValues;
  let lane = thread % kLanes;
  let i = thread / kLanes;
  let state_at = head * kHeadSize * kHeadSize + 4u * lane * kHeadSize + first_value + i;
  var s: array<vec4<f32>, kKeyQuads>;
  for (var j = 0u; j < kKeyQuads; j++) {
    let at = state_at + 4u * j * kLanes * kHeadSize;
    s[j] = vec4(old_state(sequence, at), old_state(sequence, at + kHeadSize), old_state(sequence, at + 2u * kHeadSize),
                old_state(sequence, at + 3u * kHeadSize));
  }
  var next_r: array<vec4<f32>, kLoads>;
  var next_w: array<vec4<f32>, kLoads>;
  var next_k: array<vec4<f32>, kLoads>;
  var next_kk: array<vec4<f32>, kLoads>;
  var next_kk_a: array<vec4<f32>, kLoads>;
  var next_v: array<vec4<f32>, kValueLoads>;
  let blocks = (sequence.y + kTokens - 1u) / kTokens;
  // Step b stages block b and works on it; step -1 only loads.
  for (var step = 0u; step <= blocks; step++) {
    if (step != 0u) {
      for (var j = 0u; j < kLoads; j++) {
        let at = thread + j * kWorkgroup;
        if (at < kStaged) {
          staged_r[at] = next_r[j];
          staged_w[at] = next_w[j];
          staged_k[at] = next_k[j];
          staged_kk[at] = next_kk[j];
          staged_kk_a[at] = next_kk_a[j];
        }
      }
      for (var j = 0u; j < kValueLoads; j++) {
        let at = thread + j * kWorkgroup;
        if (at < kStagedValues) { staged_v[at] = next_v[j]; }
      }
      workgroupBarrier();
    }
    if (step < blocks) {
      for (var j = 0u; j < kLoads; j++) {
        let at = min(thread + j * kWorkgroup, kStaged - 1u);
        let row = sequence.x + min(step * kTokens + at / kQuadsOfHead, sequence.y - 1u);
        let source = row * kStride + head * kQuadsOfHead + at % kQuadsOfHead;
        next_r[j] = act_vec4(kR + source);
        next_w[j] = act_vec4(kLoraW + source);
        next_k[j] = act_vec4(kK + source);
        next_kk[j] = act_vec4(kLoraV + source);
        next_kk_a[j] = act_vec4(kLoraA + source);
      }
      for (var j = 0u; j < kValueLoads; j++) {
        let at = min(thread + j * kWorkgroup, kStagedValues - 1u);
        let row = sequence.x + min(step * kTokens + at / (kValues / 4u), sequence.y - 1u);
        next_v[j] = act_vec4(kV + row * kStride + (head * kHeadSize + first_value) / 4u + at % (kValues / 4u));
      }
    }
    if (step == 0u) { continue; }
    let first = (step - 1u) * kTokens;
    let tokens = min(kTokens, sequence.y - first);
    var y = 0.0;
    for (var t = 0u; t < tokens; t++) {
      let at = t * kQuadsOfHead + lane;
      var r: array<vec4<f32>, kKeyQuads>;
      var w: array<vec4<f32>, kKeyQuads>;
      var k: array<vec4<f32>, kKeyQuads>;
      var kk: array<vec4<f32>, kKeyQuads>;
      var kk_a: array<vec4<f32>, kKeyQuads>;
      for (var j = 0u; j < kKeyQuads; j++) { kk[j] = staged_kk[at + j * kLanes]; }
      let v = staged_v[(t * kValues + i) / 4u][i % 4u];
      for (var j = 0u; j < kKeyQuads; j++) {
        w[j] = staged_w[at + j * kLanes];
        kk_a[j] = staged_kk_a[at + j * kLanes];
        k[j] = staged_k[at + j * kLanes];
        r[j] = staged_r[at + j * kLanes];
      }
      var products = vec4(0.0);
      for (var j = 0u; j < kKeyQuads; j++) { products += s[j] * kk[j]; }
      let s_kk = group_sum(dot(products, vec4(1.0)), kLanes);
      let y_before = group_sum(y, kLanes);
      products = vec4(0.0);
      for (var j = 0u; j < kKeyQuads; j++) {
        s[j] = s[j] * w[j] - s_kk * kk_a[j] + v * k[j];
        products += s[j] * r[j];
      }
      y = dot(products, vec4(1.0));
      if (lane == 0u) { staged_y[t * kValues + i] = y_before; }
    }
    y = group_sum(y, kLanes);
    if (lane == 0u) { staged_y[tokens * kValues + i] = y; }
    workgroupBarrier();
    for (var at = thread; at < tokens * (kValues / 4u); at += kWorkgroup) {
      let row = sequence.x + first + at / (kValues / 4u);
      let quad = (head * kHeadSize + first_value) / 4u + at % (kValues / 4u);
      let y_at = kValues + 4u * at;
      let value = vec4(staged_y[y_at], staged_y[y_at + 1u], staged_y[y_at + 2u], staged_y[y_at + 3u]);
      act[kY + row * kStride + quad] = bitcast<vec4<u32>>(value);
    }
  }
  for (var j = 0u; j < kKeyQuads; j++) {
    let at = state_at + 4u * j * kLanes * kHeadSize;
    set_state(sequence, at, s[j].x);
    set_state(sequence, at + kHeadSize, s[j].y);
    set_state(sequence, at + 2u * kHeadSize, s[j].z);
    set_state(sequence, at + 3u * kHeadSize, s[j].w);
  }
}
