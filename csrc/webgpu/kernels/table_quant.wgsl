// Values 4 quad .. 4 quad + 3 of a quantized row.
fn table_quad(row: u32, quad: u32) -> vec4<f32> {
  let block = decode_$TYPE(row, quad >> 3u, kUnits);
  let in_high = (quad & 4u) != 0u;
  let codes = select(block.low, block.high, in_high)[quad & 3u];
  return vec4<f32>(unpack4xI8(codes)) * select(block.scale.x, block.scale.y, in_high) +
         select(block.offset.x, block.offset.y, in_high);
}
