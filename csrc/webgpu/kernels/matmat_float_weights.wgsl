// A slice of $TYPE weights, as vec4s of memory: $PIECES for 32 values. Neighbouring threads load neighbours, so a thread's are of several
// rows. As many as a thread's Weights have room for are loaded ahead, as they are; the others when the slice is filled.
fn piece_$TYPE(part: Part, step: u32, at: u32) -> vec4<u32> {
  let row = row_at(part.weights, min(part.first + at / (2u * $PIECES), part.rows - 1u), part.stride, part.rows);
  let i = step * (2u * $PIECES) + at % (2u * $PIECES);
  if (i >= part.units * ($PIECES / 4u)) { return vec4(0u); }
  return row_vec4(row, i);
}
fn load_weights_$TYPE(part: Part, step: u32, thread: u32) -> Weights {
  var units: Weights;
  for (var n = 0u; n < kUnitsEach * kFetched; n++) {
    units[n / kFetched][n % kFetched] = piece_$TYPE(part, step, thread + n * kThreads);
  }
  return units;
}
fn put_piece_$TYPE(part: Part, at: u32, piece: vec4<u32>) {
  put_$TYPE(at / (2u * $PIECES) * kRowHalves + at % (2u * $PIECES) * (32u / $PIECES), piece, part.scale);
}
fn put_weights_$TYPE(part: Part, units: Weights, step: u32, thread: u32) {
  const early = kUnitsEach * kFetched;
  const late = kUnitsEach * $PIECES - early;
  var others: array<vec4<u32>, late>;
  for (var n = 0u; n < late; n++) { others[n] = piece_$TYPE(part, step, thread + (early + n) * kThreads); }
  for (var n = 0u; n < early; n++) { put_piece_$TYPE(part, thread + n * kThreads, units[n / kFetched][n % kFetched]); }
  for (var n = 0u; n < late; n++) { put_piece_$TYPE(part, thread + (early + n) * kThreads, others[n]); }
}
