// What wkv7_chunk.wgsl needs of each row of RWKV-7's time mix, made in place by rows, without the recurrence:
//   w = exp(-exp(-1/2) sigmoid(w0 + lora_w));  a = sigmoid(a0 + lora_a)
//   v = v + (v_first - v) sigmoid(v0 + lora_v);   first layer: v_first = v
//   kk = k * k_k / max(|k * k_k|, 1e-12) per head;  k = k (1 + (a - 1) k_a)
//
// weights: w0 a0 v0 k_k k_a [C]. act, all [C] a row: k v v_first, and lora_w lora_a lora_v, which become w, kk a and kk.
// One workgroup a row; thread t makes quads t, t + kWorkgroup, ...; all float32.
const kQuadsOfHead = kHeadSize / 4u;

var<workgroup> squares: array<f32, kQuads>;

fn sigmoid(x: vec4<f32>) -> vec4<f32> {
  return 1.0 / (1.0 + exp(-x));
}
fn set_act(at: u32, value: vec4<f32>) {
  act[at] = bitcast<vec4<u32>>(value);
}

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = workgroup.x * kStride;
  var kk: array<vec4<f32>, kPerThread>;
  var a: array<vec4<f32>, kPerThread>;
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    if (quad < kQuads) {
      let k = act_vec4(kK + row + quad);
      let v = act_vec4(kV + row + quad);
      a[i] = sigmoid(weight_vec4(kA0 + quad) + act_vec4(kLoraA + row + quad));
      kk[i] = k * weight_vec4(kKK + quad);
      squares[quad] = dot(kk[i], kk[i]);
      set_act(kLoraW + row + quad, exp(-0.6065306597126334 * sigmoid(weight_vec4(kW0 + quad) + act_vec4(kLoraW + row + quad))));
      set_act(kK + row + quad, k * (1.0 + (a[i] - 1.0) * weight_vec4(kKA + quad)));
      if (kFirstLayer) {
        set_act(kVFirst + row + quad, v);
      } else {
        let share = sigmoid(weight_vec4(kV0 + quad) + act_vec4(kLoraV + row + quad));
        set_act(kV + row + quad, v + (act_vec4(kVFirst + row + quad) - v) * share);
      }
    }
  }
  workgroupBarrier();
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    if (quad < kQuads) {
      let head = quad / kQuadsOfHead * kQuadsOfHead;
      var sum = 0.0;
      for (var j = 0u; j < kQuadsOfHead; j++) { sum += squares[head + j]; }
      let unit = kk[i] / max(sqrt(sum), 1e-12);
      set_act(kLoraV + row + quad, unit);
      set_act(kLoraA + row + quad, unit * a[i]);
    }
  }
}
