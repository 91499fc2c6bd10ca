// Values 4 quad .. 4 quad + 3 of a float row.
fn table_quad(row: u32, quad: u32) -> vec4<f32> {
  let octet = octet_$TYPE(row, quad >> 1u);
  return select(octet.low, octet.high, (quad & 1u) == 1u);
}
