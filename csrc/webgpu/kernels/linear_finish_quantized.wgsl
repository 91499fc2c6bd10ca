// The workgroup's rows are whole blocks of 32 outputs: collect them, then eight threads quantize a block.
  for (var i = 0u; i < $ROWSu; i++) {
    let sum = $ROW_SUM;
    if (lane == i % $LANESu) { outputs[i * $GROUPSu + group] = activate(sum, part.activation); }
  }
  workgroupBarrier();
  for (var q = 0u; q < $ROWSu * $GROUPSu / 4u; q += kWorkgroup) {
    let local = q + thread;
    var values = vec4(0.0);
    let inside = local < $ROWSu * $GROUPSu / 4u;
    if (inside) {
      let at = 4u * local;
      values = vec4(outputs[at], outputs[at + 1u], outputs[at + 2u], outputs[at + 3u]);
    }
    let quantized = quantize_quad(values);
    let row = part.first + 4u * local;
    if (inside && row < part.rows) {
      store_quad(part.out, part.out_heads, part.out_stride / 32u, (part.out_first + row) / 4u, quantized);
    }
  }
