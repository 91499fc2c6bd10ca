// Thread `lane` of kGroups: its share of row `channel` of the $TYPE matrix at $WEIGHTS times the hidden vector of `row`.
fn lora_$NAME(channel: u32, lane: u32, row: u32) -> f32 {
  var sum = 0.0;
  for (var step = 0u; step < $STEPSu; step++) {
    let unit = step * kGroups + lane;
    if (!$EXACT && unit >= $UNITSu) { continue; }
    let x = load_input_f32($INPUTu + row * $INPUT_STRIDEu, unit);
    sum += dot_f32(unit_values(decode_$TYPE($WEIGHTSu + channel * $STRIDEu, unit, $UNITSu)), x);
  }
  return sum;
}
