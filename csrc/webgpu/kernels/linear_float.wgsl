// Kind $NAME: $TYPE rows of $UNITS octets; $LANES threads a row, each takes octets lane, lane + $LANES, ... of $ROWS rows.
fn step_$NAME(part: Part, lane: u32, group: u32, tile: u32, step: u32, sums: ptr<function, array<f32, $SUMS>>) {
  let wanted = step * $LANESu + lane;
  let exists = $EXACT || wanted < $UNITSu;
  let octet = select($UNITSu - 1u, wanted, exists);
  var blocks: array<Octet, $ROWS>;
  for (var r = 0u; r < $ROWSu; r++) {
    let row = min(part.first + r * $GROUPSu + group, part.rows - 1u);
    blocks[r] = octet_$TYPE(row_at(part.weights, row, $STRIDEu, part.rows), octet);
  }
  for (var m = 0u; m < kTile; m++) {
    let at = part.input + (tile + m) * $INPUT_STRIDEu + 2u * octet;
    let low = act_vec4(at);
    let high = act_vec4(at + 1u);
    for (var r = 0u; r < $ROWSu; r++) {
      (*sums)[m * $ROWSu + r] += select(0.0, dot(blocks[r].low, low) + dot(blocks[r].high, high), exists);
    }
  }
}
