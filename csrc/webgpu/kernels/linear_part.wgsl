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

// Where the output of a matrix row is, for the first row of activations.
fn out_value(part: Part, row: u32) -> u32 {
  return 4u * part.out + part.out_first + row;
}
