// Float16 rows of activations as matrix products read them: tiles of kHalfTileRows rows by 8 kHalfTileOctets inputs, each in one
// piece, so that a subgroup's loads of a tile are neighbours; tile after tile along the inputs, then the next rows. Eight
// halves are a vec4. What is beyond a row's width is zero.

// Octet `octet` of row `row` of a slot whose first octet is `first` and whose rows have `octets` of them.
fn half_octet(first: u32, octets: u32, row: u32, octet: u32) -> u32 {
  let tile = row / kHalfTileRows * (octets / kHalfTileOctets) + octet / kHalfTileOctets;
  return first + tile * (kHalfTileRows * kHalfTileOctets) + row % kHalfTileRows * kHalfTileOctets + octet % kHalfTileOctets;
}
