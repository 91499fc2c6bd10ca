// The second LoRA matrices were a dispatch of their own.
fn lora(slot: u32, row: u32, channel: u32) -> f32 {
  return channel_act(slot + row, channel);
}
