for (var i = 0u; i < $ROWSu; i++) {
    let sum = $ROW_SUM;
    let row = part.first + i * $GROUPSu + group;
    if (lane == i % $LANESu && row < part.rows) {
      set_act_f32(out_value(part, row), activate(sum, part.activation) + before[i]);
    }
  }
