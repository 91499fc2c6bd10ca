// Some rows of one matrix of a dispatch, and where their sums go.
struct Part {
  kind: u32,
  weights: u32,    // vec4 of the first row
  rows: u32,
  first: u32,      // first row of this workgroup
  input: u32,      // vec4 of the input's first row: values or codes; in mix_shift.wgsl of its mix's lerp in the weights
  heads: u32,
  out: u32,        // vec4 of the output slot's values; of its codes where the outputs are quantized
  out_heads: u32,
  out_first: u32,  // value of the slot that row 0 writes
  out_stride: u32, // of the slot, in values
  activation: u32,
}

// Rows of activations that this program has: the last tile may be short.
fn row_exists(row: u32) -> bool {
  return kTile == 1u || row < select(params[0].x, params[0].z, kHeadRows);
}

// Where the output of a matrix row for a row of activations is.
fn out_value(part: Part, row: u32, tile_row: u32) -> u32 {
  return 4u * part.out + tile_row * part.out_stride + part.out_first + row;
}
