// The recurrence of RWKV-7's time mix over all rows of a sequence, for kValues of a head's N = kHeadSize values:
//   S = S diag(w) - (S kk)(kk a)^T + v k^T;  y = S r
//
// act, [C] a row: r w k kk (kk a) v, as wkv7_prepare.wgsl leaves them; y out. states: S of this layer as [H][key][value].
// workgroup.x is the head and the group of values, workgroup.y the sequence: S's rows need nothing of each other. kLanes
// neighbouring threads share kRows rows of S: lane l keeps the quads of keys l, l + kLanes, ... of them in registers. Vectors of
// kTokens tokens at a time are staged in workgroup memory, loaded while those before them are worked on; reading them from there
// is what takes the time, hence several rows a thread. The sum over lanes of y is made together with that of the next token's
// S kk: nothing waits for it. All float32.
const kQuadsOfHead = kHeadSize / 4u;
const kKeyQuads = kQuadsOfHead / kLanes;
const kApart = kValues / kRows;
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
var<workgroup> staged_y: array<f32, kTokens * kValues>;

fn run(workgroup: vec3<u32>, thread: u32) {
  let sequence = sequences[workgroup.y];
  if (sequence.y == 0u) { return; }
  let head = workgroup.x / (kHeadSize / kValues);
  let first_value = workgroup.x % (kHeadSize / kValues) * kValues;
  let lane = thread % kLanes;
  let i = thread / kLanes;  // of kValues / kRows: rows i, i + kValues / kRows, ...
  let state_at = head * kHeadSize * kHeadSize + 4u * lane * kHeadSize + first_value + i;
  var s: array<vec4<f32>, kRows * kKeyQuads>;
  for (var m = 0u; m < kRows; m++) {
    for (var j = 0u; j < kKeyQuads; j++) {
      let at = state_at + m * kApart + 4u * j * kLanes * kHeadSize;
      s[m * kKeyQuads + j] = vec4(old_state(sequence, at), old_state(sequence, at + kHeadSize),
                                  old_state(sequence, at + 2u * kHeadSize), old_state(sequence, at + 3u * kHeadSize));
    }
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
    var y = array<f32, kRows>();  // written out: what Dawn makes of a loop's variable without a value may keep the last turn's
    for (var t = 0u; t < tokens; t++) {
      let at = t * kQuadsOfHead + lane;
      var products = array<vec4<f32>, kRows>();
      for (var j = 0u; j < kKeyQuads; j++) {
        let kk = staged_kk[at + j * kLanes];
        for (var m = 0u; m < kRows; m++) { products[m] += s[m * kKeyQuads + j] * kk; }
      }
      var s_kk: array<f32, kRows>;
      for (var m = 0u; m < kRows; m++) {
        s_kk[m] = group_sum(dot(products[m], vec4(1.0)), kLanes);
        let y_before = group_sum(y[m], kLanes);
        if (lane == 0u && t != 0u) { staged_y[(t - 1u) * kValues + m * kApart + i] = y_before; }
        products[m] = vec4(0.0);
      }
      for (var j = 0u; j < kKeyQuads; j++) {
        let q = at + j * kLanes;
        let w = staged_w[q];
        let kk_a = staged_kk_a[q];
        let k = staged_k[q];
        let r = staged_r[q];
        for (var m = 0u; m < kRows; m++) {
          let value = t * kValues + m * kApart + i;
          let v = staged_v[value / 4u][value % 4u];
          let n = m * kKeyQuads + j;
          s[n] = s[n] * w - s_kk[m] * kk_a + v * k;
          products[m] += s[n] * r;
        }
      }
      for (var m = 0u; m < kRows; m++) { y[m] = dot(products[m], vec4(1.0)); }
    }
    for (var m = 0u; m < kRows; m++) {
      let y_last = group_sum(y[m], kLanes);
      if (lane == 0u) { staged_y[(tokens - 1u) * kValues + m * kApart + i] = y_last; }
    }
    workgroupBarrier();
    for (var at = thread; at < tokens * (kValues / 4u); at += kWorkgroup) {
      let row = sequence.x + first + at / (kValues / 4u);
      let quad = (head * kHeadSize + first_value) / 4u + at % (kValues / 4u);
      let value = vec4(staged_y[4u * at], staged_y[4u * at + 1u], staged_y[4u * at + 2u], staged_y[4u * at + 3u]);
      act[kY + row * kStride + quad] = bitcast<vec4<u32>>(value);
    }
  }
  for (var m = 0u; m < kRows; m++) {
    for (var j = 0u; j < kKeyQuads; j++) {
      let at = state_at + m * kApart + 4u * j * kLanes * kHeadSize;
      let quad = s[m * kKeyQuads + j];
      set_state(sequence, at, quad.x);
      set_state(sequence, at + kHeadSize, quad.y);
      set_state(sequence, at + 2u * kHeadSize, quad.z);
      set_state(sequence, at + 3u * kHeadSize, quad.w);
    }
  }
}
