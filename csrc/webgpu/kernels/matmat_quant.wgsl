// A unit of $TYPE weights.
fn fetch_$TYPE(row: u32, unit: u32, units: u32) -> Fetched {
  let packed = load_$TYPE(row, min(unit, units - 1u), units);
  return Fetched(packed.codes, packed.more_codes, packed.words, vec4(0u));
}
fn put_$TYPE(at: u32, fetched: Fetched, row: u32, unit: u32, units: u32) {
  var block = unpack_$TYPE(Packed(fetched[0], fetched[1], fetched[2]), row, unit, units);
  if (unit >= units) {
    block.scale = vec2(0.0);
    block.offset = vec2(0.0);
  }
  put_codes(at, block.low, block.scale.x, block.offset.x);
  put_codes(at + 16u, block.high, block.scale.y, block.offset.y);
}
