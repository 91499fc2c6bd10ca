// Vec4 i of a chunk's staged activations: [row of activations][first halves, second halves, heads][unit].
fn fetch_$NAME(part: Part, tile: u32, i: u32, first: u32) -> vec4<u32> {
  let unit = min(first + i % $CHUNKu, $UNITS - 1u);
  let plane = i / $CHUNKu % 3u;
  let row = tile + min(i / ($CHUNKu * 3u), kTile - 1u);
  return act[select(part.input + row * $CODES_STRIDEu + plane * $HEADS_STRIDEu, part.heads + row * $HEADS_STRIDEu, plane == 2u) + unit];
}
