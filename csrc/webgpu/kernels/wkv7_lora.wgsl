fn $NAME(row: u32, channel: u32) -> f32 {
  return channel_act($PLACE + row * kStride, channel);
}
