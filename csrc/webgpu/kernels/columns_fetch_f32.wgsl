// Vec4 i of a chunk's staged activations: [row of activations][vec4 of a unit][unit].
fn fetch_$NAME(part: Part, tile: u32, i: u32, first: u32) -> vec4<u32> {
  let unit = min(first + i % $CHUNKu, $UNITS - 1u);
  let plane = i / $CHUNKu % $PLANESu;
  let row = tile + min(i / ($CHUNKu * $PLANESu), kTile - 1u);
  return act[part.input + row * $VALUES_STRIDEu + min(unit * $PLANESu + plane, $VALUES_STRIDEu - 1u)];
}
