for (var i = thread; i < kTile * $LOCALu; i += kWorkgroup) {
    let row = part.first + i % $LOCALu;
    let m = i / $LOCALu;
    if (row < part.rows && row_exists(tile + m)) {
      let at = out_value(part, row, tile + m);
      var value = activate(column_sum(i % $LOCALu, m, $ROWSu, $SLICESu), part.activation);
      if (part.activation == kAccumulate) { value += act_f32(at); }
      set_act_f32(at, value);
    }
  }
