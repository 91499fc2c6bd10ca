"""Can copies of the next layer's weights run beside the kernels of this one? Ways to try it through WebGPU, timed.

    python benchmarks/experiments/overlap.py [--layers 16] [--megabytes 48] [--adapter NAME]

Layers of host memory that the device reads pass through two device buffers in turn, while five dependent dispatches a layer read
the other one. The dispatches are short (they read their share of the slot once, as a mat-vec does) or long (they compute besides).
Time is the wall clock of all layers, the best of five after warming up:

copies, kernels       each alone; copies by copy commands, and by a kernel
a copy command        for the next layer, before this layer's dispatches
a kernel beside       a fifth of the copy as a dispatch of its own before each of the five
in the kernels        the first workgroups of each of the five copy a fifth (grid layer z = 0, as csrc/webgpu/carry.cpp does it)
read where it is      the dispatches bind the host memory instead of a slot; nothing is copied
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import wgpudawn as wgpu
from wgpudawn.backends.dawn import extras

PARTS = 5  # dispatches a layer
WARM_SECONDS = 0.4

COPY = """
@group(1) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(1) @binding(1) var<storage, read_write> slot: array<vec4<u32>>;
fn carry(at: u32, workers: u32, thread: u32) {
  let n = arrayLength(&source);
  let stride = workers * 256u;
  var i = at * 256u + thread;
  for (; i + 3u * stride < n; i += 4u * stride) {
    let a = source[i]; let b = source[i + stride]; let c = source[i + 2u * stride]; let d = source[i + 3u * stride];
    slot[i] = a; slot[i + stride] = b; slot[i + 2u * stride] = c; slot[i + 3u * stride] = d;
  }
  for (; i < n; i += stride) { slot[i] = source[i]; }
}
"""
WORK = """
@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> act: array<vec4<u32>>;
fn work(group: u32, thread: u32) {
  let n = arrayLength(&weights);
  var sum = act[group & 1023u];
  for (var i = group * 256u + thread; i < n; i += GROUPSu * 256u) { sum += weights[i]; }
  for (var i = 0u; i < LOOPSu; i++) { sum = sum * sum.yzwx + vec4(i); }
  if (all(sum == vec4(1u, 2u, 3u, thread))) { act[group & 1023u] = sum; }
}
"""
MAINS = {
    "work": "fn main(@builtin(workgroup_id) g: vec3<u32>, @builtin(local_invocation_index) thread: u32) { work(g.x, thread); }",
    "copy": "fn main(@builtin(workgroup_id) g: vec3<u32>, @builtin(local_invocation_index) thread: u32) { carry(g.x, CARRIERSu, thread); }",
    "both": """fn main(@builtin(workgroup_id) g: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  if (g.z == 0u) { if (g.x < CARRIERSu) { carry(g.x, CARRIERSu, thread); } return; }
  work(g.x, thread);
}""",
}


class Bench:
    def __init__(self, device: wgpu.GPUDevice, layers: int, megabytes: int) -> None:
        self.device, self.layers = device, layers
        self.part = (megabytes << 20) // PARTS // 65536 * 65536  # bytes
        size = self.part * PARTS
        memory = extras.allocate_host_memory(device, size * layers)
        np.frombuffer(memory, np.uint32)[:] = np.arange(size * layers // 4, dtype=np.uint32)
        usage = wgpu.BufferUsage
        self.sources = [extras.create_buffer_from_host_memory(device, memory[i * size : (i + 1) * size], usage=usage.COPY_SRC | usage.STORAGE)
                        for i in range(layers)]  # fmt: skip
        self.slots = [device.create_buffer(size=size, usage=usage.COPY_DST | usage.COPY_SRC | usage.STORAGE) for _ in range(2)]
        self.act = device.create_buffer(size=1 << 20, usage=usage.STORAGE)
        kinds = wgpu.BufferBindingType
        layout = lambda: device.create_bind_group_layout(entries=[  # noqa: E731
            {"binding": i, "visibility": wgpu.ShaderStage.COMPUTE, "buffer": {"type": kind}}
            for i, kind in enumerate((kinds.read_only_storage, kinds.storage))])  # fmt: skip
        self.layouts = [layout(), layout()]
        self.pipeline_layout = device.create_pipeline_layout(bind_group_layouts=self.layouts)
        self.group = lambda number, *ranges: device.create_bind_group(layout=self.layouts[number], entries=[
            {"binding": i, "resource": {"buffer": b, "offset": o, "size": s}} for i, (b, o, s) in enumerate(ranges)])  # fmt: skip
        acts = (self.act, 0, 1 << 20)
        parts = [p * self.part for p in range(PARTS)]
        self.work_groups = [[self.group(0, (slot, at, self.part), acts) for at in parts] for slot in self.slots]
        self.host_groups = [[self.group(0, (source, at, self.part), acts) for at in parts] for source in self.sources]
        self.copy_groups = [[self.group(1, (source, at, self.part), (self.slots[i % 2], at, self.part)) for at in parts]
                            for i, source in enumerate(self.sources)]  # fmt: skip

    def pipeline(self, main: str, **constants: int) -> wgpu.GPUComputePipeline:
        text = WORK + COPY + "@compute @workgroup_size(256)\n" + MAINS[main]
        for name, value in constants.items():
            text = text.replace(name, str(value))
        module = self.device.create_shader_module(code=text)
        return self.device.create_compute_pipeline(layout=self.pipeline_layout, compute={"module": module, "entry_point": "main"})

    def time(self, way: str, groups: int, loops: int, carriers: int = 16) -> float:
        """Milliseconds of all layers."""
        constants = {"GROUPS": groups, "LOOPS": loops, "CARRIERS": carriers}
        work, copy, both = (self.pipeline(main, **constants) for main in ("work", "copy", "both"))

        def copy_command(encoder, layer: int) -> None:
            encoder.copy_buffer_to_buffer(self.sources[layer], 0, self.slots[layer % 2], 0, self.part * PARTS)

        def dispatch(run, pipeline, group, copy_group, *grid: int) -> None:
            run.set_pipeline(pipeline)
            run.set_bind_group(0, group)
            run.set_bind_group(1, copy_group)
            run.dispatch_workgroups(*grid)

        def once() -> float:
            encoder = self.device.create_command_encoder()
            for i in range(self.layers):
                after = (i + 1) % self.layers  # the last one carries the first, for the next round
                if way in ("copies", "a copy command"):
                    copy_command(encoder, i if way == "copies" else after)
                run = encoder.begin_compute_pass()
                for p in range(PARTS):
                    mine, other = self.work_groups[i % 2][p], self.copy_groups[after][p]
                    if way == "copies by a kernel":
                        dispatch(run, copy, self.work_groups[(i + 1) % 2][p], self.copy_groups[i][p], carriers)
                    elif way == "in the kernels":
                        dispatch(run, both, mine, other, groups, 1, 2)
                    elif way == "read where it is":
                        dispatch(run, work, self.host_groups[i][p], other, groups)
                    elif way != "copies":
                        if way == "a kernel beside":
                            dispatch(run, copy, mine, other, carriers)
                        dispatch(run, work, mine, other, groups)
                run.end()
            commands = encoder.finish()
            begin = time.perf_counter()
            self.device.queue.submit([commands])
            self.device.queue.on_submitted_work_done_sync()
            return 1e3 * (time.perf_counter() - begin)

        once()
        return min(once() for _ in range(5))

    def check(self) -> None:
        """The slots hold the layers that were carried last."""
        for i in (self.layers - 1, 0):
            got = np.frombuffer(self.device.queue.read_buffer(self.slots[i % 2]), np.uint32)
            size = self.part * PARTS // 4
            assert np.array_equal(got, np.arange(i * size, (i + 1) * size, dtype=np.uint32)), f"slot of layer {i}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--megabytes", type=int, default=48, help="of a layer")
    parser.add_argument("--loops", type=int, nargs="+", default=[0, 6000, 24000], help="what a thread computes besides reading")
    parser.add_argument("--carriers", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--groups", type=int, default=512)
    parser.add_argument("--adapter", default="", help="part of its name")
    args = parser.parse_args()
    extras.set_instance_extras(enable_toggles=["allow_unsafe_apis"])
    adapters = [a for a in wgpu.gpu.enumerate_adapters_sync() if "host-mapped-pointer" in a.features and args.adapter.lower() in a.info["device"].lower()]
    adapter = min(adapters, key=lambda a: {"DiscreteGPU": 0, "IntegratedGPU": 1}.get(a.info["adapter_type"], 2))
    device = extras.request_device_sync(adapter, required_features=["host-mapped-pointer"])
    bench = Bench(device, args.layers, args.megabytes)
    print(f"{adapter.info['device']}: {args.layers} layers of {bench.part * PARTS / 1e6:.1f} MB, {PARTS} dispatches of {args.groups} workgroups each; ms")
    end = time.perf_counter() + WARM_SECONDS
    while time.perf_counter() < end:
        bench.time("kernels", args.groups, 0)
    print(f"copies {bench.time('copies', args.groups, 0):.2f}; by a kernel of so many workgroups: "
          + ", ".join(f"{n}: {bench.time('copies by a kernel', args.groups, 0, n):.2f}" for n in args.carriers), flush=True)  # fmt: skip
    for loops in args.loops:
        print(f"kernels {bench.time('kernels', args.groups, loops):.2f}, a copy command {bench.time('a copy command', args.groups, loops):.2f}, "
              f"a kernel beside {bench.time('a kernel beside', args.groups, loops, 16):.2f}, "
              f"read where it is {bench.time('read where it is', args.groups, loops):.2f}, in the kernels "
              + ", ".join(f"{n}: {bench.time('in the kernels', args.groups, loops, n):.2f}" for n in args.carriers), flush=True)  # fmt: skip
        bench.check()


if __name__ == "__main__":
    main()
