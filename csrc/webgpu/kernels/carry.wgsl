// What a kernel that carries has besides its own work: workgroups that copy a part of the weights that are wanted next from host
// memory to their slot. They are the first layers of the grid along z; the kernel's own workgroups are the last one.
// $GROUP: the bind group behind the kernel's own; $THREADS: of a workgroup.
@group($GROUP) @binding(0) var<storage, read> carried: array<vec4<u32>>;
@group($GROUP) @binding(1) var<storage, read_write> carried_to: array<vec4<u32>>;

// The link is full with so few threads, each with four loads under way.
const kCarrierThreads = 4096u;

fn carry(workgroup: vec3<u32>, grid: vec3<u32>, thread: u32) {
  let carriers = min(max(1u, kCarrierThreads / $THREADS), grid.x * grid.y * (grid.z - 1u));
  let carrier = (workgroup.z * grid.y + workgroup.y) * grid.x + workgroup.x;
  if (carrier >= carriers) { return; }
  let count = arrayLength(&carried);
  let stride = carriers * $THREADS;
  var at = carrier * $THREADS + thread;
  for (; at + 3u * stride < count; at += 4u * stride) {
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
