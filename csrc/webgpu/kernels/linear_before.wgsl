// What an accumulating part adds to: asked for early.
  var before: array<f32, $SUMS>;
  if (part.activation == kAccumulate) {
    for (var i = 0u; i < $SUMSu; i++) {
      let row = part.first + (i % $ROWSu) * $GROUPSu + group;
      if (lane == i % $LANESu && row < part.rows && row_exists(tile + i / $ROWSu)) {
        before[i] = act_f32(out_value(part, row, tile + i / $ROWSu));
      }
    }
  }
