// The workgroup's rows are whole blocks of 32 outputs: eight threads quantize a block.
  for (var base = 0u; base < kTile * $LOCALu / 4u; base += kWorkgroup) {
    let i = base + thread;
    let inside = i < kTile * $LOCALu / 4u;
    let local = 4u * (i % ($LOCALu / 4u));
    let m = min(i / ($LOCALu / 4u), kTile - 1u);
    var values = vec4(0.0);
    for (var j = 0u; j < 4u; j++) { values[j] = activate(column_sum(local + j, m, $ROWSu, $SLICESu), part.activation); }
    let quantized = quantize_quad(values);
    let row = part.first + local;
    if (inside && row < part.rows && row_exists(tile + m)) {
      let stride = part.out_stride;
      store_quad(part.out + (tile + m) * (stride / 16u), part.out_heads + (tile + m) * (stride / 32u), stride / 32u,
                 (part.out_first + row) / 4u, quantized);
    }
  }
