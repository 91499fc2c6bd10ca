var values = vec4(0.0);
    let quads = kHeadSize / 4u;
    if (thread < quads) { values = vec4(head_r[4u * thread], head_r[4u * thread + 1u], head_r[4u * thread + 2u], head_r[4u * thread + 3u]); }
    let quantized = quantize_quad(values);
    if (thread < quads) {
      store_quad(kOutCodes + row * (kStride / 4u), kOutHeads + row * (kStride / 8u), head * quads + thread, quantized);
    }
    workgroupBarrier();
