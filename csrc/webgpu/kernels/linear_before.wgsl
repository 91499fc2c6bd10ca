// What an accumulating part adds to: asked for early.
  var before: array<f32, $ROWS>;
  if (part.activation == kAccumulate) {
    for (var i = 0u; i < $ROWSu; i++) {
      let row = part.first + i * $GROUPSu + group;
      if (lane == i % $LANESu && row < part.rows) { before[i] = act_f32(out_value(part, row)); }
    }
  }
