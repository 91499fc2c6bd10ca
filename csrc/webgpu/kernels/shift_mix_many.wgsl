// shift_mix.wgsl for the rows of many sequences: h = LayerNorm(x); out_z = h + (h_prev - h) * lerp_z for each mix z; h_prev is
// the h of the sequence's previous token: recomputed, or for its first row from the state.
//
// weights: the norm's vectors, lerp [mixes][kWidth]. act: x in (x_as_it_is.wgsl or x_and_sums.wgsl), the mixes out as float32, int8
// or float16, or several of these.
// states: the h of each sequence's last token, [kWidth], read and replaced.
// One workgroup a row; thread t makes quads t, t + kWorkgroup, ... of every mix, so that the norms are computed once, and keeps them
// until the largest of the row is known. What it loads it asks for before the first barrier. The workgroup of a sequence's first row,
// the only reader of its state, writes the new state too. All float32.

// This thread's quads of a vector of the weights.
fn weight_quads(vector: u32, thread: u32) -> Quads {
  var quads: Quads;
  for (var i = 0u; i < kPerThread; i++) { quads[i] = weight_vec4(vector + min(thread + i * kWorkgroup, kQuads - 1u)); }
  return quads;
}

// h of a row, from this thread's quads of it and its first value.
fn normed_quads(x: Quads, first: f32, weight: Quads, bias: Quads, thread: u32) -> Quads {
  let stats = row_stats(x, first, thread);
  var h: Quads;
  for (var i = 0u; i < kPerThread; i++) {
    h[i] = normed(x[i], stats, weight[i], bias[i], min(thread + i * kWorkgroup, kQuads - 1u));
  }
  return h;
}

fn mix_quads(h: Quads, previous: Quads, lerp: Quads) -> Quads {
  var mix: Quads;
  for (var i = 0u; i < kPerThread; i++) { mix[i] = h[i] + (previous[i] - h[i]) * lerp[i]; }
  return mix;
}

// The largest of a thread's values; beyond the row there are zeros, or repetitions.
fn quads_magnitude(quads: Quads) -> f32 {
  var most = 0.0;
  for (var i = 0u; i < kPerThread; i++) { most = max(most, magnitude(quads[i])); }
  return most;
}

// Sums of squares of each kLargestLanes threads' values of a mix whose rows' lengths are wanted.
const kSquares = kWorkgroup / kLargestLanes;
var<workgroup> squares: array<f32, kLengths * kSquares>;

fn note_squares(number: u32, mix: Quads, thread: u32) {
  var sum = 0.0;
  for (var i = 0u; i < kPerThread; i++) {
    if (thread + i * kWorkgroup < kQuads) { sum += dot(mix[i], mix[i]); }
  }
  sum = group_sum(sum, kLargestLanes);
  if (thread % kLargestLanes == 0u) { squares[number * kSquares + thread / kLargestLanes] = sum; }
}
// To a value of act. Of values below 2^-63 the squares are no float32: no length is given as less than such a row can have, or what it
// bounds would become infinite in float16.
const kLeastLength = 0x1p-50;
fn store_length(number: u32, at: u32, thread: u32) {
  if (thread != 0u) { return; }
  var sum = 0.0;
  for (var i = 0u; i < kSquares; i++) { sum += squares[number * kSquares + i]; }
  set_act_f32(at, max(sqrt(sum), kLeastLength));
}

// Mix `number`; outputs as vec4 addresses. All threads of the workgroup come here.
fn store_mix(number: u32, row: u32, thread: u32, mix: Quads, values: u32, codes: u32, heads: u32, half_rows: u32, scales: u32,
             has_values: bool, has_codes: bool, has_halves: bool) {
  var exponent = 0u;
  if (has_halves) {
    exponent = half_exponent(number);
    if (thread == 0u) { store_half_factor(4u * scales + row, exponent); }
  }
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    let exists = quad < kQuads;
    if (exists && has_halves) { store_half_quad(half_rows, kHalvesStride, row, quad, exponent, mix[i]); }
    if (exists && has_values) { act[values + row * kXStride + quad] = bitcast<vec4<u32>>(mix[i]); }
    if (has_codes) {
      let quantized = quantize_quad(select(vec4(0.0), mix[i], exists));
      if (exists) { store_quad(codes + row * (kXStride / 4u), heads + row * (kXStride / 8u), kXStride / 8u, quad, quantized); }
    }
  }
}

fn run(workgroup: vec3<u32>, thread: u32) {
  let row = workgroup.x;
  let x = x_quads(row, thread);
  let first = first_x(row);
  let weight = weight_quads(kNormWeight, thread);
  let bias = weight_quads(kNormBias, thread);
  $LERPS
  let sequence = sequences[params[1u + row].y];
  if (sequence.y == 0u) { return; }
  var previous = Quads();
  if (row == sequence.x) {
    for (var i = 0u; i < kPerThread; i++) { previous[i] = old_state(sequence, min(thread + i * kWorkgroup, kQuads - 1u)); }
  } else {
    previous = normed_quads(x_quads(row - 1u, thread), first_x(row - 1u), weight, bias, thread);
  }
  clear_largest(thread);
  let h = normed_quads(x, first, weight, bias, thread);
  move_x(row, thread, x);
  if (row == sequence.x) {
    var last = h;
    let last_row = sequence.x + sequence.y - 1u;
    if (last_row != row) { last = normed_quads(x_quads(last_row, thread), first_x(last_row), weight, bias, thread); }
    for (var i = 0u; i < kPerThread; i++) {
      let quad = thread + i * kWorkgroup;
      if (quad < kQuads) { set_state(sequence, quad, last[i]); }
    }
  }
  $MIXES
  $LARGEST
  $STORE
}
