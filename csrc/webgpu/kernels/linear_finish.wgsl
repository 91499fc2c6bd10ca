for (var i = 0u; i < $SUMSu; i++) {
    let sum = $ROW_SUM;
    let m = i / $ROWSu;
    let row = part.first + (i % $ROWSu) * $GROUPSu + group;
    if (lane == i % $LANESu && row < part.rows && row_exists(tile + m)) {
      set_act_f32(out_value(part, row, tile + m), activate(sum, part.activation) + before[i]);
    }
  }
