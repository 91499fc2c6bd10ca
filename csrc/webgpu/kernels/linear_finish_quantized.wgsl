// The workgroup's rows are whole blocks of 32 outputs: collect them, then eight threads quantize a block.
  for (var i = 0u; i < $SUMSu; i++) {
    let sum = $ROW_SUM;
    if (lane == i % $LANESu) {
      let local = (i % $ROWSu) * $GROUPSu + group;
      outputs[(i / $ROWSu) * ($ROWSu * $GROUPSu) + local] = activate(sum, part.activation);
    }
  }
  workgroupBarrier();
  for (var m = 0u; m < kTile; m++) {
    for (var q = 0u; q < $ROWSu * $GROUPSu / 4u; q += kWorkgroup) {
      let local = q + thread;
      var values = vec4(0.0);
      let inside = local < $ROWSu * $GROUPSu / 4u;
      if (inside) {
        let at = m * ($ROWSu * $GROUPSu) + 4u * local;
        values = vec4(outputs[at], outputs[at + 1u], outputs[at + 2u], outputs[at + 3u]);
      }
      let quantized = quantize_quad(values);
      let row = part.first + 4u * local;
      if (inside && row < part.rows && row_exists(tile + m)) {
        let quad = (part.out_first + row) / 4u;
        let stride = part.out_stride;
        store_quad(part.out + (tile + m) * (stride / 16u), part.out_heads + (tile + m) * (stride / 32u), stride / 32u, quad, quantized);
      }
    }
  }
