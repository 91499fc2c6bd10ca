// Half `half` of unit `unit` of a $TYPE row.
fn fetch_$TYPE(row: u32, unit: u32, half: u32, units: u32) -> Sixteen {
  let block = decode_$TYPE(row, unit, units);
  let codes = select(block.low, block.high, half == 1u);
  let scale = select(block.scale.x, block.scale.y, half == 1u);
  let offset = select(block.offset.x, block.offset.y, half == 1u);
  return Sixteen(code_values(codes.x, scale, offset), code_values(codes.y, scale, offset), code_values(codes.z, scale, offset),
                 code_values(codes.w, scale, offset));
}
