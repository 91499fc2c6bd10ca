// Subgroup matrices in registers: kSteps times eight independent sums += left . right, float16 products, float32 sums.
@group(0) @binding(0) var<storage, read> weights: array<f16>;
@group(0) @binding(1) var<storage, read_write> act: array<f32>;

@compute @workgroup_size(kWorkgroup)
fn main() {
  $START
  for (var step = 0u; step < kSteps; step++) {
    $MULTIPLY
  }
  $STORE
}
