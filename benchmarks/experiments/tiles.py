"""Weights that are float16 tiles in memory times 16 to 64 rows of float16 activations, by subgroup matrices: ways to load and to share
the work, beside those that the engine has (csrc/webgpu/kernels/tiles_product.wgsl), and what it costs that kernels alternate.

    python benchmarks/experiments/tiles.py [--shape key] [--rows 64] [--seconds 60]

Each variant is held against numpy. A line: rows x outputs of a subgroup; subgroups of a workgroup that share the outputs (o) and the
inputs (i); tiles of 16 inputs that are on their way (a) and written out (u); where activations come from; which operand the weights
are; workgroups that share a tile through memory; microseconds of the product and of it with the pass that adds up. Copies of the
matrix that together are larger than any cache are read in turn, one dependent dispatch each. Then the same product from four texts
that differ in a line which does nothing, in turn, and straight code of several lengths likewise: the instruction cache. --null
compiles for a device that does nothing, wherever there is no subgroup matrix.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace

import numpy as np
from matmat import HEAD, REDUCE, SHAPES, USAGE, Problem, group_of, open_device, pipeline_of


@dataclass(frozen=True)
class Tile:
    """Of a subgroup: `rows` x `outs`."""

    rows: int
    outs: int
    along: int = 1
    inner: int = 1  # they add up in workgroup memory, and no others share their tile
    ahead: int = 2
    unroll: int = 2
    staged: bool = False  # activations through workgroup memory, 64 inputs at a time, two slices in turn
    left: bool = False  # weights are the left operand, activations the right one
    eights: bool = False  # matrices of 16 x 8 x 8 whose operands are whole lines of memory: only its time is right
    splits: int = 1
    number: int = 0  # texts that differ in it have the same instructions

    def __str__(self) -> str:
        source = "staged" if self.staged else "eights" if self.eights else "memory"
        side = "left" if self.left else "right"
        return f"{self.rows}x{self.outs} o{self.along} i{self.inner} a{self.ahead} u{self.unroll} {source} {side} x{self.splits}"


TEXT = """enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium_experimental.subgroup_matrix_uniformity);
diagnostic(off, subgroup_uniformity);
@group(0) @binding(0) var<storage, read> weights: array<f16>;
@group(0) @binding(1) var<storage, read> act: array<$ACT>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
struct Shape { outs: u32, inputs: u32, splits: u32, steps: u32, steps_each: u32, rows: u32 }
@group(0) @binding(3) var<uniform> shape: Shape;
const kStride = $INNERu;
const kOf = $OFu;  // tiles of a step of 64 inputs
const kThreads = $THREADSu;
var<workgroup> memory: array<$MEMORY>;
$PUT
@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32, @builtin(subgroup_id) subgroup: u32) {
  let line = shape.inputs * 16u;
  let split = workgroup.x % shape.splits;
  let first = (workgroup.x / shape.splits * $ALONGu + subgroup / kStride) * $OUTSu;
  let right = first / 16u * line;
  let begin = split * shape.steps_each * kOf + $TURN;
  let end = min((split + 1u) * shape.steps_each, shape.steps) * kOf;
  let last = end - kStride + $TURN;
  $BODY
  if (shape.rows == 123456u + $NUMBERu) { out[thread] = $NUMBER.0; }
}"""

PUT = """fn put(at: u32, octet: vec4<u32>) {
  let a = bitcast<vec2<f16>>(octet.x); let b = bitcast<vec2<f16>>(octet.y); let c = bitcast<vec2<f16>>(octet.z); let d = bitcast<vec2<f16>>(octet.w);
  memory[at] = a.x; memory[at + 1u] = a.y; memory[at + 2u] = b.x; memory[at + 3u] = b.y;
  memory[at + 4u] = c.x; memory[at + 5u] = c.y; memory[at + 6u] = d.x; memory[at + 7u] = d.y;
}"""
PADDED = 64 + 8  # halves of a row of a slice

# Weights to tiles: 16 rows by two units a subgroup, so that reads are of 32 bytes and a tile is written by 16 threads.
TO_TILES = HEAD[:HEAD.index("enable subgroups")] + """@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> tiles: array<vec4<u32>>;
struct Shape { units: u32, stride: u32, inputs: u32, pad: u32 }
@group(0) @binding(2) var<uniform> shape: Shape;
""" + HEAD[HEAD.index("fn code_halves"):HEAD.index("struct Unit")] + """
fn word(i: u32) -> u32 { return weights[i >> 2u][i & 3u]; }
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = workgroup.y * 16u + thread % 16u;
  let unit = workgroup.x * 16u + thread / 16u;
  if (unit >= shape.units) { return; }
  let record = row * shape.stride;
  let heads = 4u * (record + shape.units);
  let codes = weights[record + unit];
  let d = unpack2x16float(word(heads + (unit >> 3u)));
  let s_m = word(heads + (shape.units >> 3u) + (unit >> 1u)) >> (16u * (unit & 1u));
  let scale = vec2<f16>(f16(16.0 * d.x * f32(s_m & 255u)));
  let offset = vec2<f16>(f16(-16.0 * d.y * f32((s_m >> 8u) & 255u)));
  let low = codes & vec4(0x0f0f0f0fu);
  let high = (codes >> vec4(4u)) & vec4(0x0f0f0f0fu);
  let to = (row / 16u * (shape.inputs / 16u) + 2u * unit) * 32u + row % 16u * 2u;
  tiles[to] = vec4(code_halves(low.x, scale, offset), code_halves(low.y, scale, offset));
  tiles[to + 1u] = vec4(code_halves(low.z, scale, offset), code_halves(low.w, scale, offset));
  tiles[to + 32u] = vec4(code_halves(high.x, scale, offset), code_halves(high.y, scale, offset));
  tiles[to + 33u] = vec4(code_halves(high.z, scale, offset), code_halves(high.w, scale, offset));
}"""

STRAIGHT = """@group(0) @binding(0) var<storage, read_write> sums: array<f32>;
@compute @workgroup_size(128)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  var v = sums[id.x];
  $LINES
  sums[id.x] = v;
}"""


def kernel(tile: Tile) -> str:
    m, k = (8, 8) if tile.eights else (16, 16)  # rows of activations and inputs of a matrix
    down, along = tile.rows // m, tile.outs // 16
    rows_type, weights_type = (("right", "col_major"), ("left", "row_major")) if tile.left or tile.eights else (("left", "row_major"), ("right", "col_major"))
    shapes = {"a": f"f16, {k}, {m}" if rows_type[0] == "left" else f"f16, {m}, {k}", "w": f"f16, {k}, 16" if rows_type[0] == "right" else f"f16, 16, {k}"}
    swapped = rows_type[0] == "right"
    pairs = [(i, j) for i in range(down) for j in range(along)]
    threads = 32 * tile.along * tile.inner

    def load_weights(declare: str, slot: int, at: str) -> list[str]:
        return [f"{declare}w{slot}_{j} = subgroupMatrixLoad<subgroup_matrix_{weights_type[0]}<{shapes['w']}>, {weights_type[1]}>"
                f"(&weights, right + {j}u * line + {at} * {16 * k}u, {k}u);" for j in range(along)]

    def load_rows(declare: str, slot: int, source: str, stride: int) -> list[str]:
        return [f"{declare}a{slot}_{i} = subgroupMatrixLoad<subgroup_matrix_{rows_type[0]}<{shapes['a']}>, {rows_type[1]}>({source.format(i=i)}, {stride}u);"
                for i in range(down)]

    in_memory = "&act, {{i}}u * line" + (" / 2u" if tile.eights else "") + " + {at} * " + f"{m * k}u"
    result = f"subgroup_matrix_result<f32, {m}, 16>" if swapped else f"subgroup_matrix_result<f32, 16, {m}>"
    body = [f"var sum_{i}_{j}: {result};" for i, j in pairs]
    for slot in range(tile.ahead):
        body += [f"let at{slot} = min(begin + {slot}u * kStride, last);", *load_weights("var ", slot, f"at{slot}")]
        if not tile.staged:
            body += load_rows("var ", slot, in_memory.format(at=f"at{slot}"), k)
    octets = tile.rows * 8 // threads
    if tile.staged:
        assert tile.inner == 1 and tile.unroll == 4 and octets > 0
        # Octet o of a step: row tile o / 128, then tile of inputs o / 32 % 4, row o / 2 % 16, half o % 2.
        numbers = [f"(thread + {i * threads}u)" for i in range(octets)]
        body += [f"var o{i} = act[{n} / 128u * (line / 8u) + begin * 32u + {n} % 128u];" for i, n in enumerate(numbers)]
    body.append(f"for (var k = begin; k < end; k += {tile.unroll}u * kStride) {{")
    if tile.staged:
        body.append(f"let slice = k / 4u % 2u * {tile.rows * PADDED}u;")
        body += [f"put(slice + ({n} / 128u * 16u + {n} / 2u % 16u) * {PADDED}u + {n} / 32u % 4u * 16u + (thread & 1u) * 8u, o{i});" for i, n in enumerate(numbers)]
        body += ["workgroupBarrier();", "let later = min(k + 4u, end - 4u) * 32u;"]
        body += [f"o{i} = act[{n} / 128u * (line / 8u) + later + {n} % 128u];" for i, n in enumerate(numbers)]
    for u in range(tile.unroll):
        slot = u % tile.ahead
        rows = u if tile.staged else slot
        if tile.staged:
            body += load_rows("let ", u, f"&memory, slice + {{i}}u * {16 * PADDED}u + {16 * u}u", PADDED)
        for i, j in pairs:
            operands = f"w{slot}_{j}, a{rows}_{i}" if swapped else f"a{rows}_{i}, w{slot}_{j}"
            body.append(f"sum_{i}_{j} = subgroupMatrixMultiplyAccumulate({operands}, sum_{i}_{j});")
        body += [f"let next{u} = min(k + {u + tile.ahead}u * kStride, last);", *load_weights("", slot, f"next{u}")]
        if not tile.staged:
            body += load_rows("", slot, in_memory.format(at=f"next{u}"), k)
    body.append("}")
    order = "col_major" if swapped else "row_major"
    if tile.inner == 1:
        body.append("let at = split * shape.rows * shape.outs + first;")
        body += [f"subgroupMatrixStore<{order}>(&out, at + {m * i}u * shape.outs + {16 * j}u, sum_{i}_{j}, shape.outs);" for i, j in pairs]
    else:
        assert tile.along == 1 and m == 16
        each = 16 * tile.outs
        for i in range(down):
            body += ["workgroupBarrier();", *(f"subgroupMatrixStore<{order}>(&memory, subgroup * {each}u + {16 * j}u, sum_{i}_{j}, {tile.outs}u);" for j in range(along))]
            body += ["workgroupBarrier();", f"for (var e = thread; e < {each}u; e += kThreads) {{ var sum = 0.0; "
                     f"for (var s = 0u; s < kStride; s++) {{ sum += memory[s * {each}u + e]; }} "
                     f"out[({16 * i}u + e / {tile.outs}u) * shape.outs + first + e % {tile.outs}u] = sum; }}"]
    memory = f"f16, {2 * tile.rows * PADDED}" if tile.staged else f"f32, {16 * tile.outs * tile.inner}"
    fields = {"ACT": "vec4<u32>" if tile.staged else "f16", "INNER": tile.inner, "TURN": "0u" if tile.inner == 1 else "subgroup % kStride", "OF": 64 // k, "THREADS": threads, "MEMORY": memory,
              "PUT": PUT if tile.staged else "", "ALONG": tile.along, "OUTS": tile.outs, "BODY": "\n  ".join(body), "NUMBER": tile.number}
    text = TEXT
    for key in sorted(fields, key=len, reverse=True):
        text = text.replace(f"${key}", str(fields[key]))
    return text


def straight(operations: int, number: int) -> str:
    return STRAIGHT.replace("$LINES", "\n  ".join(f"v = fma(v, v + {i}.5, {number}.25);" for i in range(operations)))


class Tiled(Problem):
    """Its weights also as float16 tiles."""

    def __init__(self, device, outs: int, inputs: int, max_rows: int, cache_bytes: int) -> None:
        super().__init__(device, outs, inputs, max_rows, cache_bytes)
        self.tiles = [device.create_buffer(size=2 * outs * inputs, usage=USAGE.STORAGE) for _ in self.weights]
        shape = device.create_buffer_with_data(data=np.array([self.units, self.stride, inputs, 0], np.uint32), usage=USAGE.UNIFORM)
        pipeline = pipeline_of(device, TO_TILES)
        groups = [group_of(device, pipeline, w, t, shape) for w, t in zip(self.weights, self.tiles, strict=True)]
        seconds_of(device, lambda work: [dispatch(work, pipeline, g, -(-self.units // 16), outs // 16) for g in groups])


def dispatch(work, pipeline, group, x: int, y: int = 1) -> None:
    work.set_pipeline(pipeline)
    work.set_bind_group(0, group)
    work.dispatch_workgroups(x, y)


def seconds_of(device, record) -> float:
    encoder = device.create_command_encoder()
    work = encoder.begin_compute_pass()
    record(work)
    work.end()
    commands = encoder.finish()
    begin = time.perf_counter()
    device.queue.submit([commands])
    device.queue.on_submitted_work_done_sync()
    return time.perf_counter() - begin


def microseconds(device, record) -> float:
    """Of record(work, i), called some hundred times in a submit; what a submit takes by itself is among them, some 30 us in all."""
    first = seconds_of(device, lambda work: [record(work, i) for i in range(16)]) / 16
    n = max(16, int(0.004 / first)) // 16 * 16
    return 1e6 * min(seconds_of(device, lambda work: [record(work, i) for i in range(n)]) for _ in range(3)) / n


class Run:
    """A tile on a problem, compiled."""

    def __init__(self, device, problem: Tiled, tile: Tile, sums, out) -> None:
        self.device, self.problem, self.out = device, problem, out
        steps = problem.inputs // 64
        splits = -(-steps // -(-steps // tile.splits))
        self.tile = tile = replace(tile, splits=splits)
        self.workgroups = problem.outs // (tile.outs * tile.along) * splits

        def uniform(*values: int):
            return device.create_buffer_with_data(data=np.array(values, np.uint32), usage=USAGE.UNIFORM)

        shape = uniform(problem.outs, problem.inputs, splits, steps, -(-steps // splits), tile.rows, 0, 0)
        begin = time.perf_counter()
        self.pipeline, self.reduce = pipeline_of(device, kernel(tile)), pipeline_of(device, REDUCE)
        self.compile_seconds = time.perf_counter() - begin
        self.groups = [group_of(device, self.pipeline, w, problem.act["tiles"], sums, shape) for w in problem.tiles]
        self.reduce_group = group_of(device, self.reduce, sums, out, uniform(problem.outs, splits, tile.rows * problem.outs, 0))

    def multiply(self, work, i: int) -> None:
        dispatch(work, self.pipeline, self.groups[i % len(self.groups)], self.workgroups)

    def add_up(self, work) -> None:
        dispatch(work, self.reduce, self.reduce_group, self.problem.outs // 256, self.tile.rows)

    def error(self) -> float:
        seconds_of(self.device, lambda work: (self.multiply(work, 0), self.add_up(work)))
        outs, rows, n = self.problem.outs, self.tile.rows, 64
        got = np.frombuffer(self.device.queue.read_buffer(self.out, 0, 4 * rows * outs), np.float32).reshape(rows, outs)[:, :n]
        expected = self.problem.expected(rows, n)
        return float(np.abs(got - expected).max() / np.abs(expected).max())


def variants(rows: int, splits: int) -> list[Tile]:
    """`splits`: of tiles of 32 outputs, so that there are some 1000 of them."""
    one = Tile(rows, 32, splits=splits)
    found = [replace(one, ahead=a, unroll=u, left=left) for a, u in ((1, 1), (2, 2), (1, 4), (2, 4), (4, 4)) for left in (False, True)]
    found += [replace(one, outs=o, splits=s, ahead=1, unroll=1, left=left) for o, s in ((16, -(-splits // 2)), (64, 2 * splits)) for left in (False, True)]
    found += [replace(one, outs=o, inner=i, splits=1, left=left) for o in (16, 32) for i in (2, 4, 8) for left in (False, True)]
    staged = replace(one, staged=True, unroll=4, left=True)
    found += [replace(staged, along=n, outs=o, ahead=a) for n, o, a in ((4, 32, 1), (4, 32, 2), (4, 32, 4), (2, 32, 2), (8, 32, 2), (4, 64, 1), (8, 16, 2))
              if rows * 8 >= 32 * n]
    return [*found, replace(staged, along=4, left=False), *(replace(one, eights=True, ahead=a, unroll=a) for a in (2, 4))]


def alternating(device, problem: Tiled, sums, out, splits: int) -> None:
    """Prints what one kernel costs again and again, and four in turn that differ only in their text."""
    for tile in (Tile(64, 32, splits=splits), Tile(64, 32, ahead=2, unroll=4, splits=splits),
                 Tile(64, 32, along=4, unroll=4, staged=True, left=True, splits=splits)):
        four = [Run(device, problem, replace(tile, number=n), sums, out) for n in range(1, 5)]
        one, turns = microseconds(device, four[0].multiply), microseconds(device, lambda work, i, four=four: four[i % 4].multiply(work, i))
        print(f"{tile}: one {one:.2f} us, four in turn {turns:.2f}", flush=True)
    for operations in (16, 512, 1024, 2048):
        pipelines = [pipeline_of(device, straight(operations, n)) for n in range(4)]
        groups = [group_of(device, p, sums) for p in pipelines]
        one, turns = (microseconds(device, lambda work, i, n=n, p=pipelines, g=groups: dispatch(work, p[i % n], g[i % n], 512)) for n in (1, 4))
        print(f"{operations} lines of code: one {one:.2f} us, four in turn {turns:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="key", choices=SHAPES)
    parser.add_argument("--rows", type=int, default=64, choices=(16, 32, 64))
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--null", action="store_true", help="compile with the null backend only")
    args = parser.parse_args()
    started = time.perf_counter()
    device = open_device(args.null)
    outs, inputs = SHAPES[args.shape]
    splits = min(max(1, round(1056 / (outs // 32))), inputs // 64 // 4, 12)
    tiles = variants(args.rows, splits)
    if args.null:
        for text in [TO_TILES, straight(16, 0), *(kernel(tile) for tile in tiles)]:
            device.create_shader_module(code=text)
        print(*tiles, sep="\n")
        return
    sums = device.create_buffer(size=1 << 28, usage=USAGE.STORAGE)
    out = device.create_buffer(size=4 * args.rows * outs, usage=USAGE.STORAGE | USAGE.COPY_SRC)
    problem = Tiled(device, outs, inputs, 64, 100 << 20)
    runs = []
    for tile in tiles:  # all compiled before the device is warmed up, for it slows down within milliseconds
        if time.perf_counter() - started < 0.6 * args.seconds:
            runs.append(Run(device, problem, tile, sums, out))
    print(f"{len(runs)} of {len(tiles)} compiled, {time.perf_counter() - started:.0f} s", flush=True)
    wrong = [str(run.tile) for run in runs if not run.tile.eights and run.error() > 0.01]
    print("wrong:", wrong or "none", flush=True)
    end = time.perf_counter() + 0.6
    while time.perf_counter() < end:
        seconds_of(device, lambda work: [runs[0].multiply(work, i) for i in range(200)])
    for run in runs:
        if time.perf_counter() - started > args.seconds:
            print("out of time", flush=True)
            return
        alone = microseconds(device, run.multiply)
        both = microseconds(device, lambda work, i, run=run: (run.multiply(work, i), run.add_up(work)))
        flops = 2 * args.rows * outs * inputs
        print(f"{args.shape:6} {run.tile!s:42} {run.workgroups:5} workgroups {alone:8.2f} us {both:8.2f} us {flops / alone / 1e6:6.1f} Tf "
              f"compiled in {run.compile_seconds:.2f} s", flush=True)
    alternating(device, problem, sums, out, splits)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
