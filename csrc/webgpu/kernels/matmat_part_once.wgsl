// The same with the whole table brought to workgroup memory: a part is not asked for when it is known which, memory answers once. Costs
// registers, which products of many rows do not have.
@group(0) @binding(3) var<storage, read> parts: array<array<u32, kPartWords>>;
var<workgroup> ends: array<u32, kParts>;
var<workgroup> table: array<array<u32, kPartWords>, kParts>;

fn part_of(workgroup: u32, thread: u32) -> Part {
  for (var n = thread; n < kParts * kPartWords; n += kThreads) {
    table[n / kPartWords][n % kPartWords] = parts[n / kPartWords][n % kPartWords];
  }
  if (thread < kParts) { ends[thread] = parts[thread][0]; }
  let of_all = workgroupUniformLoad(&ends);
  var i = 0u;
  for (var j = 0u; j + 1u < kParts; j++) { i += select(0u, 1u, workgroup >= of_all[j]); }
  let w = workgroupUniformLoad(&table[i]);
  let at = workgroup - w[1];
  let split = at % w[15];
  let step = split * w[17];
  return Part(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10] + split * w[16], w[11], w[12], w[13], w[14], w[15],
              w[16], w[17], w[18], bitcast<f32>(w[19]), bitcast<f32>(w[20]), at / w[15] * kTileOuts, step, min(step + w[17], w[18]));
}
