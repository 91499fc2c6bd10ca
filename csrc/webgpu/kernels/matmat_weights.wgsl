// A thread's $TYPE units of a slice.
fn load_weights_$TYPE(part: Part, step: u32, thread: u32) -> Weights {
  var units: Weights;
  for (var i = 0u; i < kUnitsEach; i++) {
    let at = thread + i * kThreads;
    let row = row_at(part.weights, min(part.first + at / 2u, part.rows - 1u), part.stride, part.rows);
    units[i] = fetch_$TYPE(row, 2u * step + at % 2u, part.units, part.scale);
  }
  return units;
}
fn put_weights_$TYPE(part: Part, units: Weights, step: u32, thread: u32) {
  for (var i = 0u; i < kUnitsEach; i++) {
    let at = thread + i * kThreads;
    let row = row_at(part.weights, min(part.first + at / 2u, part.rows - 1u), part.stride, part.rows);
    put_$TYPE(at / 2u * kRowHalves + at % 2u * 32u, units[i], row, 2u * step + at % 2u, part.units, part.scale);
  }
}
