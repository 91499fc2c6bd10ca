// out = LayerNorm(table[token]) for each row.
//
// weights: rows kFirstToken .. kFirstToken + kTokens - 1 of the table; a table that is too large for one binding is dispatched
// piece by piece, and a workgroup writes only if its token lies in the piece. norms: the norm's vectors.
// tokens: the last choice of each sequence, for rows that bring no token.
// One workgroup a row; a thread decodes the quads t, t + kWorkgroup, ...; float32 throughout.
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(4) var<storage, read> norms: array<vec4<u32>>;

fn run(workgroup: vec3<u32>, thread: u32) {
  let row = workgroup.x;
  let info = params[1u + row];
  var token = info.x;
  if (bitcast<i32>(token) < 0) { token = tokens[info.y]; }
  let mine = token >= kFirstToken && token - kFirstToken < kTokens;
  let table_row = select(0u, token - kFirstToken, mine) * kTableStride;
  var x: Quads;
  for (var i = 0u; i < kPerThread; i++) {
    let quad = thread + i * kWorkgroup;
    if (quad < kQuads) { x[i] = table_quad(table_row, quad) * quad_mask(quad); }
  }
  let stats = row_stats(x, table_quad(table_row, 0u).x, thread);
  if (mine) {
    for (var i = 0u; i < kPerThread; i++) {
      let quad = thread + i * kWorkgroup;
      if (quad < kQuads) {
        let h = normed(x[i], stats, bitcast<vec4<f32>>(norms[kNormWeight + quad]), bitcast<vec4<f32>>(norms[kNormBias + quad]), quad);
        act[kOut + row * kOutStride + quad] = bitcast<vec4<u32>>(h);
      }
    }
  }
}
