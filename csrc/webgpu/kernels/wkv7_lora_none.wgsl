// Layer 0 has no value residual.
fn lora_$NAME(channel: u32, lane: u32, row: u32) -> f32 {
  return 0.0;
}
