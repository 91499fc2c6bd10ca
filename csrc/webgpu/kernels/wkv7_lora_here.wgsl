// The second LoRA matrices' rows of this head, lora_z = z2 . hidden_z: kGroups neighbouring threads a row. Their loads come
// first, all of them, and then the activations'.
const kLoraW = 0u;
const kLoraA = 1u;
const kLoraV = 2u;
const kLoraG = 3u;
var<workgroup> head_lora: array<f32, 4u * kHeadSize>;

fn lora(z: u32, row: u32, channel: u32) -> f32 {
  return head_lora[z * kHeadSize + channel % kHeadSize];
}
fn keep_lora(z: u32, row: u32, lane: u32, sum: f32) {
  let whole = group_sum(sum, kGroups);
  if (lane == 0u) { head_lora[z * kHeadSize + row] = whole; }
}
fn lora_dot(octet: Octet, hidden: u32) -> f32 {
  return dot(octet.low, act_vec4(hidden)) + dot(octet.high, act_vec4(hidden + 1u));
}
