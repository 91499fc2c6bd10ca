// Float16 rows of activations, in tiles: half_tiles.wgsl.
@group(0) @binding(kHalvesBinding) var<storage, read_write> halves: array<vec4<u32>>;
