// Weights as float16 in device memory, as matrix products load them: tiles of kWeightTileOuts outputs by 8 kWeightTileOctets
// inputs, each in one piece; tile after tile along the inputs, then the next outputs. Eight halves are a vec4. What is beyond
// the matrix is zero: inputs up to a multiple of 64, outputs up to the largest tile of a product.

// Octet `octet` of output `out` of a matrix whose first octet is `first` and whose outputs have `octets` of them.
fn weight_octet(first: u32, octets: u32, out: u32, octet: u32) -> u32 {
  let tile = out / kWeightTileOuts * (octets / kWeightTileOctets) + octet / kWeightTileOctets;
  let in_tile = out % kWeightTileOuts * kWeightTileOctets + octet % kWeightTileOctets;
  return first + tile * (kWeightTileOuts * kWeightTileOctets) + in_tile;
}
