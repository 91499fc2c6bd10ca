// Bitonic sort of entries in workgroup memory, in logit_keys.wgsl's order. A thread takes eight entries at once through three of
// the network's steps, so that there is a barrier for three of them.
var<workgroup> sorted: array<vec2<u32>, kSlice>;

// Puts the one first that comes first, or last.
fn order(a: ptr<function, vec2<u32>>, b: ptr<function, vec2<u32>>, best_first: bool) {
  let x = *a;
  let y = *b;
  if (comes_first(y, x) == best_first) {
    *a = y;
    *b = x;
  }
}

// The steps 2^(low + 2), 2^(low + 1) and 2^low of the merge of `size` entries, or the last `steps` of them; of size 0: sorts by eights.
fn merge_eights(thread: u32, count: u32, size: u32, low: u32, steps: u32) {
  for (var i = thread; i < count / 8u; i += kWorkgroup) {
    let at = ((i >> low) << (low + 3u)) | (i & ((1u << low) - 1u));
    let first = (at & size) == 0u;
    var a = sorted[at];
    var b = sorted[at + (1u << low)];
    var c = sorted[at + (2u << low)];
    var d = sorted[at + (3u << low)];
    var e = sorted[at + (4u << low)];
    var f = sorted[at + (5u << low)];
    var g = sorted[at + (6u << low)];
    var h = sorted[at + (7u << low)];
    if (size == 0u) {
      let last = (at & 8u) == 0u;  // as the merge of sixteen wants them
      order(&a, &b, true); order(&c, &d, false); order(&e, &f, true); order(&g, &h, false);
      order(&a, &c, true); order(&b, &d, true); order(&e, &g, false); order(&f, &h, false);
      order(&a, &b, true); order(&c, &d, true); order(&e, &f, false); order(&g, &h, false);
      order(&a, &e, last); order(&b, &f, last); order(&c, &g, last); order(&d, &h, last);
      order(&a, &c, last); order(&b, &d, last); order(&e, &g, last); order(&f, &h, last);
      order(&a, &b, last); order(&c, &d, last); order(&e, &f, last); order(&g, &h, last);
    } else {
      if (steps > 2u) { order(&a, &e, first); order(&b, &f, first); order(&c, &g, first); order(&d, &h, first); }
      if (steps > 1u) { order(&a, &c, first); order(&b, &d, first); order(&e, &g, first); order(&f, &h, first); }
      order(&a, &b, first); order(&c, &d, first); order(&e, &f, first); order(&g, &h, first);
    }
    sorted[at] = a;
    sorted[at + (1u << low)] = b;
    sorted[at + (2u << low)] = c;
    sorted[at + (3u << low)] = d;
    sorted[at + (4u << low)] = e;
    sorted[at + (5u << low)] = f;
    sorted[at + (6u << low)] = g;
    sorted[at + (7u << low)] = h;
  }
  workgroupBarrier();
}

// Sorts the first `count` entries, a power of two of at least 8. To be called by all threads.
fn sort(thread: u32, count: u32) {
  merge_eights(thread, count, 0u, 0u, 3u);
  for (var bits = 4u; (1u << bits) <= count; bits++) {
    var left = bits;
    while (left > 0u) {
      let steps = min(left, 3u);
      merge_eights(thread, count, 1u << bits, max(left, 3u) - 3u, steps);
      left -= steps;
    }
  }
}
