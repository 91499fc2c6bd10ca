fn $NAME(row: u32, channel: u32) -> f32 {
  let sum = added_value(4u * ($PLACE + row * $STRIDE) + channel, 4u * $SPLIT_STRIDE, $SPLITS);
  return sum * sums_factor($SCALES, row, $MATRIX);
}
