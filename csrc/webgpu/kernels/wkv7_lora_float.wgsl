// Thread `lane` of kGroups: its share of row `channel` of the $TYPE matrix at $WEIGHTS times the hidden vector of `row`.
fn lora_$NAME(channel: u32, lane: u32, row: u32) -> f32 {
  var sum = 0.0;
  for (var step = 0u; step < $STEPSu; step++) {
    let octet = step * kGroups + lane;
    if (!$EXACT && octet >= $UNITSu) { continue; }
    let weight = octet_$TYPE($WEIGHTSu + channel * $STRIDEu, octet);
    let at = $INPUTu + row * $INPUT_STRIDEu + 2u * octet;
    sum += dot(weight.low, act_vec4(at)) + dot(weight.high, act_vec4(at + 1u));
  }
  return sum;
}
