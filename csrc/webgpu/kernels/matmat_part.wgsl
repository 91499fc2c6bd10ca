// The part of a workgroup of matmat.wgsl, from the table in memory.
@group(0) @binding(3) var<storage, read> parts: array<Part>;

fn part_of(workgroup: u32, thread: u32) -> Part {
  var i = 0u;
  for (var j = 0u; j + 1u < kParts; j++) { i += select(0u, 1u, workgroup >= parts[j].end); }  // loads that do not wait for each other
  var part = parts[i];
  let at = workgroup - part.begin;
  let split = at % part.splits;
  part.first = at / part.splits * kTileOuts;
  part.step = split * part.steps_each;
  part.last = min(part.step + part.steps_each, part.steps);
  part.out += split * part.split_stride;
  return part;
}
