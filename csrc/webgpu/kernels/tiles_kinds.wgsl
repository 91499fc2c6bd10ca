fn make_unit(part: Part, row: u32, unit: u32) {
  switch (part.kind) {
    $MAKE
  }
}

@compute @workgroup_size(kWorkgroup)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  var i = 0u;
  for (var j = 0u; j + 1u < kParts; j++) { i += select(0u, 1u, workgroup.x >= parts[j].end); }
  let part = parts[i];
  let number = (workgroup.x - part.begin) * kWorkgroup + thread;
  let block = number / (2u * kWeightTileOuts);  // of a tile's outputs, a step of inputs
  let steps = part.octets / 8u;
  let out = block / steps * kWeightTileOuts + number / 2u % kWeightTileOuts;
  let unit = 2u * (block % steps) + number % 2u;
  if (out >= part.outs) { return; }
  if (out < part.rows) { make_unit(part, row_at(part.weights, out, part.stride, part.rows), unit); }
  for (var n = 0u; n < 4u; n++) { tiles[weight_octet(part.tiles, part.octets, out, 4u * unit + n)] = unit_halves[n]; }
}
