// Kind $NAME: $TYPE rows of $UNITS octets; $LANES threads a row, each takes octets lane, lane + $LANES, ... of $ROWS rows.
fn run_$NAME(part: Part, thread: u32, tile: u32) {
  let lane = thread % $LANESu;
  let group = thread / $LANESu;
  var sums: array<f32, $SUMS>;
  for (var step = 0u; step < $STEPSu; step++) {
    let octet = step * $LANESu + lane;
    if ($EXACT || octet < $UNITSu) {
      var blocks: array<Octet, $ROWS>;
      for (var r = 0u; r < $ROWSu; r++) {
        let row = min(part.first + r * $GROUPSu + group, part.rows - 1u);
        blocks[r] = octet_$TYPE(part.weights + row * $STRIDEu, octet);
      }
      for (var m = 0u; m < kTile; m++) {
        let at = part.input + (tile + m) * $INPUT_STRIDEu + 2u * octet;
        let low = act_vec4(at);
        let high = act_vec4(at + 1u);
        for (var r = 0u; r < $ROWSu; r++) { sums[m * $ROWSu + r] += dot(blocks[r].low, low) + dot(blocks[r].high, high); }
      }
    }
  }
  $FINISH
}
