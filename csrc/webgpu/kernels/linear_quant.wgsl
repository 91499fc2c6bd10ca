// Kind $NAME: $TYPE rows of $UNITS units; $LANES threads a row, each takes units lane, lane + $LANES, ... of $ROWS rows.
fn run_$NAME(part: Part, thread: u32, tile: u32) {
  let lane = thread % $LANESu;
  let group = thread / $LANESu;
  var sums: array<f32, $SUMS>;
  for (var step = 0u; step < $STEPSu; step++) {
    let unit = step * $LANESu + lane;
    if ($EXACT || unit < $UNITSu) {
      var blocks: array<$DECODED, $ROWS>;
      for (var r = 0u; r < $ROWSu; r++) {
        let row = min(part.first + r * $GROUPSu + group, part.rows - 1u);
        blocks[r] = $DECODE(decode_$TYPE(part.weights + row * $STRIDEu, unit, $UNITSu));
      }
      for (var m = 0u; m < kTile; m++) {
        let x = $LOAD;
        for (var r = 0u; r < $ROWSu; r++) { sums[m * $ROWSu + r] += $DOT(blocks[r], x); }
      }
    }
  }
  $FINISH
}
