// Kind $NAME: $TYPE rows of $UNITS units; $LANES threads a row, each takes units lane, lane + $LANES, ... of $ROWS rows.
fn step_$NAME(part: Part, lane: u32, group: u32, tile: u32, step: u32, sums: ptr<function, array<f32, $SUMS>>) {
  let wanted = step * $LANESu + lane;
  let exists = $EXACT || wanted < $UNITSu;
  let unit = select($UNITSu - 1u, wanted, exists);
  var blocks: array<$DECODED, $ROWS>;
  for (var r = 0u; r < $ROWSu; r++) {
    let row = min(part.first + r * $GROUPSu + group, part.rows - 1u);
    blocks[r] = $DECODE(decode_$TYPE(row_at(part.weights, row, $STRIDEu, part.rows), unit, $UNITSu));
  }
  for (var m = 0u; m < kTile; m++) {
    let x = $LOAD;
    for (var r = 0u; r < $ROWSu; r++) { (*sums)[m * $ROWSu + r] += select(0.0, $DOT(blocks[r], x), exists); }
  }
}
