let quads = kHeadSize / 4u;
  let q = select(0u, thread, thread < quads);
  let quantized = quantize_quad(vec4(head_out[4u * q], head_out[4u * q + 1u], head_out[4u * q + 2u], head_out[4u * q + 3u]));
  if (thread < quads) { store_quad(kOutCodes, kOutHeads, kStride / 8u, head * quads + thread, quantized); }
