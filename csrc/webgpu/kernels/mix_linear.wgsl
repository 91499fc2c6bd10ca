// For one token: a row made of activations (mix_shift.wgsl, mix_heads.wgsl) and the matrices that read it, in one dispatch:
// out = activation(weight . row), or out += weight . row.
//
// weights: vectors that the row is made with, the packed rows of all parts. act: inputs of the row; outputs as in linear.wgsl.
// Every workgroup makes the one row that its matrix reads for itself, in workgroup memory, while its first weights are on
// the way: that takes less time than a dispatch of its own. So workgroups are large and few. A part is some rows of one
// matrix (part_of: part_text.h); how they are read is its kind (mix_linear_kind.wgsl). Numbers as in linear.wgsl.
var<workgroup> mixed_codes: array<vec4<u32>, kMixedCodes>;   // of units: first halves, then second halves
var<workgroup> mixed_heads: array<vec4<f32>, kMixedHeads>;
var<workgroup> mixed_values: array<vec4<f32>, kMixedValues>;

// The row as int8 or as float32.
fn make_mixed(vectors: Vectors, stats: Stats, as_codes: bool, thread: u32) {
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    let exists = quad < kQuads;
    let mixed = select(vec4(0.0), mixed_quad(vectors, stats, i, quad), exists);
    if (as_codes) {
      let quantized = quantize_quad(mixed);
      if (exists) {
        mixed_codes[((quad >> 2u) & 1u) * (kQuads / 8u) + (quad >> 3u)][quad & 3u] = quantized.codes;
        if ((quad & 7u) == 0u) { mixed_heads[quad >> 3u] = quantized.head; }
      }
    } else if (exists) {
      mixed_values[quad] = mixed;
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
  switch (part.kind) {
    $KINDS
    default: {}
  }
}
