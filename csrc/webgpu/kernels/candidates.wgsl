// What the kernels that choose among logits are given.
@group(0) @binding(1) var<storage, read_write> act: array<u32>;
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> entries: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> bias: array<vec4<u32>>;
