// The types of this dispatch's matrices, by the number of their kind.
fn fetch(part: Part, row: u32, unit: u32) -> Fetched {
  switch (part.kind) {
    $FETCH
  }
}
fn put_unit(part: Part, at: u32, fetched: Fetched, row: u32, unit: u32) {
  switch (part.kind) {
    $PUT
  }
}
