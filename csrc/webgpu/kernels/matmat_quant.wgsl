// A unit of $TYPE weights.
fn fetch_$TYPE(row: u32, unit: u32, units: u32, scale: f32) -> Fetched {
  let packed = load_$TYPE(row, min(unit, units - 1u), units);
  var fetched: Fetched;
  fetched[0] = packed.codes;
  fetched[1] = packed.more_codes;
  fetched[2] = packed.words;
  return fetched;
}
fn put_$TYPE(at: u32, fetched: Fetched, row: u32, unit: u32, units: u32, scale: f32) {
  var block = unpack_$TYPE(Packed(fetched[0], fetched[1], fetched[2]), row, unit, units);
  let factor = select(scale, 0.0, unit >= units);
  put_codes(at, block.low, block.scale.x * factor, block.offset.x * factor);
  put_codes(at + 16u, block.high, block.scale.y * factor, block.offset.y * factor);
}
