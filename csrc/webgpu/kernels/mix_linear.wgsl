// For one token: shift_mix.wgsl and the matrices that read its mixes, out = activation(weight . mixed), in one dispatch.
//
// weights: the norm's vectors, lerp, the packed rows of all parts. act: x in; outputs as in linear.wgsl. state: the h of the
// token before, read from one buffer by all workgroups; the first writes this token's to another.
// Every workgroup makes the one mixed row that its matrix reads for itself, in workgroup memory, while its first weights are on
// the way: that takes less time than a dispatch of its own. So workgroups are large and few. A part is some rows of one
// matrix (part_of, printed by compile_fused.cpp); how they are read is its kind (mix_linear_kind.wgsl). Numbers as in linear.wgsl.
var<workgroup> mixed_codes: array<vec4<u32>, kMixedCodes>;   // of units: first halves, then second halves
var<workgroup> mixed_heads: array<vec4<f32>, kMixedHeads>;
var<workgroup> mixed_values: array<vec4<f32>, kMixedValues>;

fn weight_vec4(at: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(weights[at]);
}

// What a thread needs of memory to mix its quads: asked for before anything else, the weights after it.
struct Vectors {
  x: Quads,
  near: f32,
  weight: Quads,  // of the norm, times 1 - lerp
  bias: Quads,    // of the norm, times 1 - lerp; plus the previous h times lerp
}
fn load_vectors(part: Part, thread: u32) -> Vectors {
  var vectors: Vectors;
  vectors.x = act_quads(kX, thread);
  vectors.near = act_f32(4u * kX);
  for (var i = 0u; i < kPerThread; i++) {
    let quad = min(thread + i * kWorkgroup, kQuads - 1u);
    let lerp = weight_vec4(part.input + quad);
    vectors.weight[i] = weight_vec4(kNormWeight + quad) * (1.0 - lerp);
    vectors.bias[i] = weight_vec4(kNormBias + quad) * (1.0 - lerp) + old_state(quad) * lerp;
  }
  return vectors;
}

// mixed = h + (previous - h) lerp with h = (x - mean) / deviation * weight + bias, as int8 or as float32.
fn make_mixed(vectors: Vectors, keeps_state: bool, as_codes: bool, thread: u32) {
  let x = vectors.x;
  let stats = row_stats(x, vectors.near, thread);
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    let exists = quad < kQuads;
    let mixed = select(vec4(0.0), normed(x[i], stats, vectors.weight[i], vectors.bias[i], quad), exists);
    if (as_codes) {
      let quantized = quantize_quad(mixed);
      if (exists) {
        mixed_codes[((quad >> 2u) & 1u) * (kQuads / 8u) + (quad >> 3u)][quad & 3u] = quantized.codes;
        if ((quad & 7u) == 0u) { mixed_heads[quad >> 3u] = quantized.head; }
      }
    } else if (exists) {
      mixed_values[quad] = mixed;
    }
    if (keeps_state && exists) {
      set_state(quad, normed(x[i], stats, weight_vec4(kNormWeight + quad), weight_vec4(kNormBias + quad), quad));
    }
  }
  if (!as_codes && kQuads % 2u == 1u && thread == 0u) { mixed_values[kMixedValues - 1u] = vec4(0.0); }
  workgroupBarrier();
}

fn mixed_input(unit: u32) -> Input {
  return Input(mixed_codes[unit], mixed_codes[kQuads / 8u + unit], mixed_heads[unit]);
}
fn mixed_unit(unit: u32) -> Unit {
  let at = 8u * unit;
  return Unit(mixed_values[at], mixed_values[at + 1u], mixed_values[at + 2u], mixed_values[at + 3u], mixed_values[at + 4u],
              mixed_values[at + 5u], mixed_values[at + 6u], mixed_values[at + 7u]);
}
fn dot_octet(octet: Octet, i: u32) -> f32 {
  return dot(octet.low, mixed_values[2u * i]) + dot(octet.high, mixed_values[2u * i + 1u]);
}

fn run(workgroup: vec3<u32>, thread: u32) {
  let part = part_of(workgroup.y);
  let keeps_state = workgroup.y == 0u;
  switch (part.kind) {
    $KINDS
    default: {}
  }
}
