// The end of tiles_product.wgsl in a program in which some outputs are shared by no other workgroup.
  if (part.to_sums == 1u) {
    $STORE
    return;
  }
  load_factors(part, row, thread);
  let rows = rows_of(part);
  // params[0].w is 0: written out, the end would be longer than all the rest.
  for (var n = 0u; n < $MATRICESu + params[0].w; n++) {
    switch (n) {
      $CASES
    }
    finish(part, row, rows, thread, n / $ALONGu * kMatrixN, n % $ALONGu * kMatrixM);
  }
