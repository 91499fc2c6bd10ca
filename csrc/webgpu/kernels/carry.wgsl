// What a kernel that carries has besides its own work: workgroups that copy a part of the weights that are wanted next from host
// memory to their slot. They are the first layers of the grid along z; the kernel's own workgroups are the last one.
// $GROUP: the bind group behind the kernel's own; $THREADS: of a workgroup.
@group($GROUP) @binding(0) var<storage, read> carried: array<vec4<u32>>;
@group($GROUP) @binding(1) var<storage, read_write> carried_to: array<vec4<u32>>;
@group($GROUP) @binding(2) var<uniform> carrying_threads: vec4<u32>;  // x

fn carry(workgroup: vec3<u32>, grid: vec3<u32>, thread: u32) {
  let carriers = min(max(1u, carrying_threads.x / $THREADS), grid.x * grid.y * (grid.z - 1u));
  let carrier = (workgroup.z * grid.y + workgroup.y) * grid.x + workgroup.x;
  if (carrier >= carriers) { return; }
  let count = arrayLength(&carried);
  let stride = carriers * $THREADS;
  // Nothing in a round depends on anything: a load that only its own condition needs would be made after the store before it, and
  // wait for the link alone.
  let whole = count / (4u * stride) * (4u * stride);
  var at = carrier * $THREADS + thread;
  for (; at < whole; at += 4u * stride) {
    let a = carried[at];
    let b = carried[at + stride];
    let c = carried[at + 2u * stride];
    let d = carried[at + 3u * stride];
    carried_to[at] = a;
    carried_to[at + stride] = b;
    carried_to[at + 2u * stride] = c;
    carried_to[at + 3u * stride] = d;
  }
  for (; at < count; at += stride) { carried_to[at] = carried[at]; }
}
