// Kind $NAME: rows of type $TYPE.
fn lora_$NAME(lora: LoraRows, thread: u32) {
  let lane = thread % kLanes;
  let row = lora.first + thread / kLanes;
  let row_at = lora.weights + min(row, lora.rows - 1u) * $STRIDEu;
  $LOADS
  make_mixed(lora.lerp, thread);
  var sum = 0.0;
  $DOTS
  finish_lora(lora, row, lane, sum);
}
