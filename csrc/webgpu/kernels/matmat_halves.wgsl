// The float16 operands of products: rows of activations as half_tiles.wgsl orders them, one by one, kStep inputs at a time.
const kStep = 64u;
@group(0) @binding(5) var<storage, read> halves: array<f16>;

// What undoes the scales of the packed rows and of the weights: loaded once, before the product.
var<workgroup> factors: array<f32, kTileRows>;
fn load_factors(part: Part, row: u32, thread: u32) {
  for (var i = thread; i < kTileRows; i += kThreads) { factors[i] = act_f32(4u * part.scales + row + i) * part.unscale; }
}
