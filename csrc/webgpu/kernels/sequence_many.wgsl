// (first row, rows) of the sequence that this dispatch works on.
@group(2) @binding(0) var<uniform> sequence: vec4<u32>;
fn sequence_rows() -> vec2<u32> {
  return sequence.xy;
}
