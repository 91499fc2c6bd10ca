fn make_$TYPE(part: Part, row: u32, unit: u32) {
  put_$TYPE(0u, fetch_$TYPE(row, unit, part.units, part.scale), row, unit, part.units, part.scale);
}
