"""What a multiprocessor takes for a subgroup's load of a float16 matrix, by where it lies, its shape and the stride of its rows.

    python benchmarks/experiments/matrix_loads.py

264 workgroups of four subgroups; a turn of a subgroup loads four (or eight smaller) matrices and multiplies each once; what they load is
a few KB, near the multiprocessor after the first turns. A line: x (storage) or near (workgroup memory; none: no loads, the rate of the products
alone), M, N, K, stride in halves, operand, nanoseconds of a load and of 256 halves, Tflop/s. --null only compiles, with the null backend.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from matmat import HEAD, USAGE, group_of, open_device, pipeline_of

TEXT = HEAD[:HEAD.index("@group(0)")] + """@group(0) @binding(0) var<storage, read> x: array<f16>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
var<workgroup> near: array<f16, 16384>;
@compute @workgroup_size(128) fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32,
                                      @builtin(subgroup_id) subgroup: u32) {
  for (var i = thread; i < 16384u; i += 128u) { near[i] = x[i]; }
  workgroupBarrier();
  $DECLARE
  var base = subgroup * 256u;
  for (var i = 0u; i < 4096u; i++) {
    base = (base + 16u) & 1023u;
    $TURN
  }
  $STORE
}"""
FORMS = [("", 16, 16, 16, 16, "left"), ("", 16, 8, 16, 16, "left"), ("", 16, 8, 8, 16, "left")]
FORMS += [("x", 16, 16, 16, stride, operand) for stride in (16, 24, 64, 72) for operand in ("left", "right")]
FORMS += [("x", 16, 8, 8, stride, operand) for stride in (8, 16) for operand in ("left", "right")]
FORMS += [("near", 16, 16, 16, stride, operand) for stride in (16, 24, 64, 72) for operand in ("left", "right")]
FORMS += [("near", 16, 8, 8, stride, operand) for stride in (8, 72) for operand in ("left", "right")]


def n_loads(m: int, n: int, k: int) -> int:
    return 4 if m * n * k == 4096 else 8


def text_of(place: str, m: int, n: int, k: int, stride: int, operand: str) -> str:
    types = {"left": f"subgroup_matrix_left<f16, {k}, {m}>, row_major", "right": f"subgroup_matrix_right<f16, {n}, {k}>, col_major"}
    mine, other = types[operand], types["right" if operand == "left" else "left"]
    count, apart = n_loads(m, n, k), (m if operand == "left" else n) * stride
    declare = [f"var sum{i}: subgroup_matrix_result<f32, {n}, {m}>;" for i in range(count)]
    declare += [f"let b = subgroupMatrixLoad<{other}>(&x, 512u, 16u);", f"let a = subgroupMatrixLoad<{mine}>(&x, 512u, 16u);"]
    turn = [f"let a{i} = subgroupMatrixLoad<{mine}>(&{place}, base + {i * apart}u, {stride}u);" for i in range(count) if place]
    for i in range(count):
        a = f"a{i}" if place else "a"
        turn.append(f"sum{i} = subgroupMatrixMultiplyAccumulate({f'{a}, b' if operand == 'left' else f'b, {a}'}, sum{i});")
    store = [f"subgroupMatrixStore<row_major>(&out, group.x * {256 * count}u + {256 * i}u, sum{i}, 16u);" for i in range(count)]
    return TEXT.replace("$DECLARE", "\n  ".join(declare)).replace("$TURN", "\n    ".join(turn)).replace("$STORE", "\n  ".join(store))


def main() -> None:
    null = "--null" in sys.argv
    device = open_device(null)
    if null:
        for form in FORMS:
            device.create_shader_module(code=text_of(*form))
        print(len(FORMS), "texts")
        return
    pipelines = [pipeline_of(device, text_of(*form)) for form in FORMS]
    x = device.create_buffer_with_data(data=np.zeros(1 << 16, np.float16), usage=USAGE.STORAGE)
    out = device.create_buffer(size=4 * 256 * 8 * 264, usage=USAGE.STORAGE)

    def run(pipeline) -> float:
        group = group_of(device, pipeline, x, out)
        encoder = device.create_command_encoder()
        work = encoder.begin_compute_pass()
        for _ in range(8):
            work.set_pipeline(pipeline)
            work.set_bind_group(0, group)
            work.dispatch_workgroups(264)
        work.end()
        commands = encoder.finish()
        begin = time.perf_counter()
        device.queue.submit([commands])
        device.queue.on_submitted_work_done_sync()
        return (time.perf_counter() - begin) / 8

    end = time.perf_counter() + 0.6
    while time.perf_counter() < end:
        run(pipelines[0])
    n_multiprocessors = 132  # of an H200
    for (place, m, n, k, stride, operand), pipeline in zip(FORMS, pipelines, strict=True):
        seconds = min(run(pipeline) for _ in range(3))
        loads = 264 * 4 * 4096 * n_loads(m, n, k)
        each = 1e9 * seconds * n_multiprocessors / loads
        halves = (m if operand == "left" else n) * k
        print(f"{place or 'none':4} {m:2} {n:2} {k:2} stride {stride:3} {operand:5} {each:6.2f} ns a load, {each * 256 / halves:6.2f} of 256 halves, "
              f"{2 * m * n * k * loads / seconds / 1e12:6.1f} Tflop/s", flush=True)


if __name__ == "__main__":
    main()
