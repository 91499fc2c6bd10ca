"""Weights that are float16 tiles in memory times 16 to 64 rows of float16 activations, by subgroup matrices: ways to load and to share
the work, beside the engine's (csrc/webgpu/kernels/tiles_product.wgsl).

    python benchmarks/experiments/tiles.py [--shape key value output rkv] [--rows 64 32] [--seconds 60]

Each variant is held against numpy. A line: rows x outputs of a workgroup; subgroups that share the outputs (o), the rows (d) and the
inputs (i); inputs of a step; slices in workgroup memory (s); how weights come: from memory as matrices, tiles of 16 inputs that are on
their way (direct), or through registers and workgroup memory, so many steps early (staged); how values get into workgroup memory; then
for each shape microseconds and the weights' GB/s, the fastest first, and all (workgroups that share a tile: microseconds). Parts left
out ("-weights") show what a kernel waits for; "-product" reads the same weights and does nothing with them. Copies of the matrix that
together are larger than any cache are read in turn, one dependent dispatch each. Then some products from four texts that differ in a
line which does nothing, in turn, and what each text adds to the driver's cache (__GL_SHADER_DISK_CACHE_PATH): the instruction cache.
Everything is compiled before the device is warmed up, for it slows down within milliseconds. --null compiles for a device that does
nothing, wherever there is no subgroup matrix.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, replace

import numpy as np
from matmat import HEAD, REDUCE, SHAPES, USAGE, Problem, group_of, open_device, pipeline_of


@dataclass(frozen=True)
class Tile:
    """Of a workgroup: `rows` x `outs`."""

    rows: int
    outs: int = 128
    along: int = 4  # subgroups over the outputs, the rows and the inputs of a step
    down: int = 1
    inner: int = 1
    step: int = 64
    slices: int = 2
    staged: int = 0  # steps of weights on their way to workgroup memory; 0: matrices straight from storage
    loads: int = 2  # of these: tiles of 16 inputs on their way
    octets: bool = False  # staged weights lie in memory as columns of octets, 16 outputs each
    puts: str = "eighth"  # how octets get into workgroup memory: to a place that is a sum, or eight times one; or as matrices
    flat: bool = False  # one place in memory a step, from where its tiles are constant distances
    touch: int = 0  # steps ahead that a value of each 32 bytes of weights is read, for the cache's sake
    eights: bool = False  # weights as matrices of 16 x 8, as if they lay so that each is a whole line: only its time is right
    roll: bool = False  # the tiles of 16 inputs of a step are a loop
    without: str = ""
    number: int = 0  # texts that differ in it have the same instructions

    @property
    def threads(self) -> int:
        return 32 * self.along * self.down * self.inner

    @property
    def bytes(self) -> int:
        """Of workgroup memory."""
        halves = (self.rows + (self.outs if self.staged else 0)) * (self.step + 8) * self.slices
        return 2 * halves + (64 * self.down * self.outs * self.inner if self.inner > 1 else 0)

    def __str__(self) -> str:
        weights = f"staged {self.staged}" + (" octets" if self.octets else "") if self.staged else f"direct {self.loads}"
        weights += f" {self.puts}" + "".join(f" {name}" for name in ("flat", "eights") if getattr(self, name)) + (f" touch {self.touch}" if self.touch else "")
        return (f"{self.rows}x{self.outs} o{self.along} d{self.down} i{self.inner} {self.step} s{self.slices} {weights}" + (" roll" if self.roll else "")
                + (f" -{self.without}" if self.without else ""))


TEXT = """enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium_experimental.subgroup_matrix_uniformity);
diagnostic(off, subgroup_uniformity);
@group(0) @binding(0) var<storage, read> weights: array<$WEIGHT>;
@group(0) @binding(1) var<storage, read> act: array<$ACT>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
struct Shape { outs: u32, inputs: u32, splits: u32, steps: u32, steps_each: u32, rows: u32, zero: u32, pad: u32 }
@group(0) @binding(3) var<uniform> shape: Shape;
const kThreads = $THREADSu;
const kStep = $STEPu;
const kStride = kStep + 8u;
const kRows = $ROWSu;
const kOuts = $OUTSu;
const kSlice = $SLICEu;
var<workgroup> slice: array<f16, $MEMORY>;
fn put($PLACE: u32, octet: vec4<u32>) {
  $AT
  let a = bitcast<vec2<f16>>(octet.x); let b = bitcast<vec2<f16>>(octet.y); let c = bitcast<vec2<f16>>(octet.z); let d = bitcast<vec2<f16>>(octet.w);
  slice[at] = a.x; slice[at + 1u] = a.y; slice[at + 2u] = b.x; slice[at + 3u] = b.y;
  slice[at + 4u] = c.x; slice[at + 5u] = c.y; slice[at + 6u] = d.x; slice[at + 7u] = d.y;
}
const kLine = 2u * kStep;  // octets of a step of 16 rows: they lie in one piece
$LOAD_ACTS
$STAGED
@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32, @builtin(subgroup_id) subgroup: u32) {
  let split = workgroup.x % shape.splits;
  let first = workgroup.x / shape.splits * kOuts;
  let begin = split * shape.steps_each;
  let end = min(begin + shape.steps_each, shape.steps);
  let own_out = subgroup % $ALONGu * (kOuts / $ALONGu);
  let own_row = subgroup / $ALONGu % $DOWNu * (kRows / $DOWNu);
  let own_part = subgroup / ($ALONGu * $DOWNu);
  $BODY
  if (shape.rows == 123456u + $NUMBERu) { out[thread] = $NUMBER.0; }
}"""

LOAD_ACTS = """const kActs = kRows * kStep / 8u / kThreads;
alias Acts = array<vec4<u32>, kActs>;
fn load_acts(step: u32, thread: u32) -> Acts {
  var acts: Acts;
  for (var i = 0u; i < kActs; i++) {
    let at = thread + i * kThreads;
    acts[i] = act[at / kLine * 2u * shape.inputs + step * kLine + at % kLine];
  }
  return acts;
}
fn put_acts(base: u32, acts: Acts, thread: u32) {
  for (var i = 0u; i < kActs; i++) {
    let at = thread + i * kThreads;
    put(base + (at / kLine * 16u + at / 2u % 16u) * kStride + at % kLine / 32u * 16u + at % 2u * 8u, acts[i]);
  }
}"""

STAGED = """const kWeights = kOuts * kStep / 8u / kThreads;
alias Weights = array<vec4<u32>, kWeights>;
fn load_weights(first: u32, step: u32, thread: u32) -> Weights {
  var loaded: Weights;
  for (var i = 0u; i < kWeights; i++) {
    let at = thread + i * kThreads;
    loaded[i] = weights[(first / 16u + at / kLine) * 2u * shape.inputs + step * kLine + at % kLine];
  }
  return loaded;
}
fn put_weights(base: u32, loaded: Weights, thread: u32) {
  for (var i = 0u; i < kWeights; i++) {
    let at = thread + i * kThreads;
    put(base + kRows * kStride + $TO, loaded[i]);
  }
}"""

# Weights to tiles: 16 rows by two units a subgroup, so that reads are of 32 bytes and a tile is written by 16 threads.
TO_TILES = HEAD[:HEAD.index("enable subgroups")] + """@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> tiles: array<vec4<u32>>;
struct Shape { units: u32, stride: u32, inputs: u32, octets: u32 }
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
  let next = select(1u, 16u, shape.octets == 1u);
  let to = (row / 16u * (shape.inputs / 16u) + 2u * unit) * 32u + row % 16u * select(2u, 1u, shape.octets == 1u);
  tiles[to] = vec4(code_halves(low.x, scale, offset), code_halves(low.y, scale, offset));
  tiles[to + next] = vec4(code_halves(low.z, scale, offset), code_halves(low.w, scale, offset));
  tiles[to + 32u] = vec4(code_halves(high.x, scale, offset), code_halves(high.y, scale, offset));
  tiles[to + 32u + next] = vec4(code_halves(high.z, scale, offset), code_halves(high.w, scale, offset));
}"""


# Where octet `at` of a step, whose tiles lie one after the other, goes in a slice.
TO = "(at / kLine * 16u + at / 2u % 16u) * kStride + at % kLine / 32u * 16u + at % 2u * 8u"


def eighth(place: str) -> str:
    """Of a place in halves, in octets."""
    return place.replace("kStride", "(kStride / 8u)").replace("* 16u + at % 2u * 8u", "* 2u + at % 2u").replace("/ 16u * 8u", "/ 16u")


def kernel(tile: Tile) -> str:
    m = 8 if tile.eights else 16  # rows of activations of a matrix
    down, along = tile.rows // tile.down // m, tile.outs // tile.along // 16
    pairs = [(i, j) for i in range(down) for j in range(along)]
    tiles, of_step = tile.step // 16, tile.step // 16 // tile.inner  # of 16 inputs: of a step, and of those of a subgroup
    without = tile.without.split("+")
    body = [f"var sum_{i}_{j}: subgroup_matrix_result<f32, {m}, 16>;" for i, j in pairs]

    def load_direct(declare: str, slot: int, at: str) -> list[str]:
        if "weights" in without and not declare:
            return []
        places = [f"&weights, own_weights + {j}u * line + {at} * 256u" for j in range(along)]
        if tile.eights:
            return [f"{declare}w{slot}_{j}_{h} = subgroupMatrixLoad<subgroup_matrix_left<f16, 8, 16>, row_major>({place} + {128 * h}u, 8u);"
                    for j, place in enumerate(places) for h in range(2)]
        return [f"{declare}w{slot}_{j} = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>({place}, 16u);"
                for j, place in enumerate(places)]

    def later(at: int) -> str:
        """Where tile `at` of a subgroup's lies from the step on that is multiplied."""
        here = "later" if at >= of_step else "here"
        return f"({here} + {at % of_step * tile.inner}u)"

    subgroups = tile.threads // 32
    of_subgroup = tile.rows // 16 * tiles // subgroups

    def load_matrices(number: int, step: str, declare: str) -> list[str]:
        places = [f"(subgroup + {n * subgroups}u)" for n in range(of_subgroup)]
        return [f"{declare}m{number}_{n} = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>"
                f"(&act, ({at} / {tiles}u * (shape.inputs / 16u) + {step} * {tiles}u + {at} % {tiles}u) * 256u, 16u);" for n, at in enumerate(places)]

    def put_matrices(number: int) -> list[str]:
        places = [f"(subgroup + {n * subgroups}u)" for n in range(of_subgroup)]
        return [f"subgroupMatrixStore<row_major>(&slice, base + {at} / {tiles}u * 16u * kStride + {at} % {tiles}u * 16u, m{number}_{n}, kStride);"
                for n, at in enumerate(places)]

    def multiply(at: int | str, slot: int | str) -> list[str]:
        """Tile `at` of a subgroup's of a step."""
        k = f"({at} * {tile.inner}u + own_part) * 16u" if isinstance(at, str) or tile.inner > 1 else f"{16 * at}u"
        lines = []

        def load(name: str, matrix: str, major: str, row: str, column: str) -> str:
            return f"let {name} = subgroupMatrixLoad<subgroup_matrix_{matrix}>, {major}>(&slice, base + ({row}) * kStride + {column}, kStride);"

        if tile.staged:
            lines += [load(f"w{slot}_{j}", "left<f16, 16, 16", "row_major", f"kRows + own_out + {16 * j}u", k) for j in range(along)]
        if tile.eights:
            for h in range(2):
                lines += [load(f"a{i}_{h}", "right<f16, 8, 8", "col_major", f"own_row + {8 * i}u", f"{k} + {8 * h}u") for i in range(down)]
                lines += [f"sum_{i}_{j} = subgroupMatrixMultiplyAccumulate(w{slot}_{j}_{h}, a{i}_{h}, sum_{i}_{j});" for i, j in pairs]
            return lines
        lines += [load(f"a{i}", "right<f16, 16, 16", "col_major", f"own_row + {16 * i}u", k) for i in range(down)]
        return lines + [f"sum_{i}_{j} = subgroupMatrixMultiplyAccumulate(w{slot}_{j}, a{i}, sum_{i}_{j});" for i, j in pairs]

    def turn(number: int, step: str, ahead: str) -> list[str]:
        """A step whose loads wait in registers of this number."""
        lines = ["workgroupBarrier();"] if tile.slices == 1 else []
        lines += [f"base = {step} % 2u * kSlice;"] if tile.slices == 2 else []
        lines += put_matrices(number) if tile.puts == "matrices" else [f"put_acts(base, acts{number}, thread);"]
        if "product" in without:
            loads = tile.outs * tile.step // 8 // tile.threads
            lines = [f"eaten ^= {' ^ '.join(f'loaded{number}[{n}]' for n in range(loads))};", f"let later{number} = min({step} + {ahead}, end - 1u);",
                     f"loaded{number} = load_weights(first, later{number}, thread);"]
            return lines
        lines += [f"put_weights(base, loaded{number}, thread);"] if tile.staged else []
        lines += ["workgroupBarrier();", f"let later{number} = min({step} + {ahead}, end - 1u);"]
        lines += load_matrices(number, f"later{number}", "") if tile.puts == "matrices" else [f"acts{number} = load_acts(later{number}, thread);"]
        lines += [f"loaded{number} = load_weights(first, later{number}, thread);"] if tile.staged and "weights" not in without else []
        if tile.roll:
            assert tile.staged or tile.loads == 1 or of_step % tile.loads == 0
            n = 1 if tile.staged else tile.loads
            lines += [f"for (var k = 0u; k < {of_step}u + shape.zero; k += {n}u) {{"]
            for slot in range(n):
                lines += ["{", *multiply(f"(k + {slot}u)", slot), "}"]
                if not tile.staged:
                    lines += load_direct("", slot, f"min({step} * {tiles}u + (k + {slot + n}u) * {tile.inner}u + own_part, last)")
            return [*lines, "}"]
        if tile.touch:
            lines.append("touched += " + " + ".join(f"t_{n}" for n in range(touches)) + ";")
            lines += touch("", f"min({step} + {tile.touch + 1}u, end - 1u)")
        if tile.flat:
            assert tile.loads <= of_step
            lines += [f"let here = {step} * {tiles}u + own_part;", f"let later = later{number} * {tiles}u + own_part;"]
        for at in range(of_step):
            slot = at if tile.staged else at % tile.loads
            lines += ["{", *multiply(at, slot), "}"]
            if tile.flat:
                lines += load_direct("", slot, later(at + tile.loads))
            elif not tile.staged:
                lines += load_direct("", slot, f"min({step} * {tiles}u + {(at + tile.loads) * tile.inner}u + own_part, last)")
        return lines

    if not tile.staged:
        assert tile.roll or of_step % tile.loads == 0
        body += ["let line = shape.inputs * 16u;", "let own_weights = (first + own_out) / 16u * line;",
                 f"let last = (end - 1u) * {tiles}u + {tiles - tile.inner}u + own_part;"]
        for slot in range(tile.loads):
            body += load_direct("var ", slot, f"min(begin * {tiles}u + {slot * tile.inner}u + own_part, last)")
    registers = max(1, tile.staged)
    for number in range(registers):
        at = f"min(begin + {number}u, end - 1u)"
        body += load_matrices(number, at, "var ") if tile.puts == "matrices" else [f"var acts{number} = load_acts({at}, thread);"]
        body += [f"var loaded{number} = load_weights(first, {at}, thread);"] if tile.staged else []
    touches = tile.outs * tile.step // 16 // tile.threads

    def touch(declare: str, step: str) -> list[str]:
        of_line = tile.step  # places of 32 bytes of a step of 16 outputs
        places = [f"(thread + {n * tile.threads}u)" for n in range(touches)]
        return [f"{declare}t_{n} = weights[(first / 16u + {at} / {of_line}u) * line + {step} * {16 * tile.step}u + {at} % {of_line}u * 16u];"
                for n, at in enumerate(places)]

    if tile.touch:
        body.append("var touched = 0.0h;")
        for ahead in range(1, tile.touch + 1):
            body += touch("var " if ahead == 1 else "", f"min(begin + {ahead}u, end - 1u)")
            if ahead < tile.touch:
                body.append("touched += " + " + ".join(f"t_{n}" for n in range(touches)) + ";")
    body.append("var base = 0u;")
    body.append(f"for (var step = begin; step < end; step += {registers}u) {{")
    for number in range(registers):
        if number:
            body.append(f"if (step + {number}u >= end) {{ break; }}")
        body += ["{", *turn(number, f"(step + {number}u)", f"{registers}u"), "}"]
    body.append("}")
    if tile.inner == 1:
        store = ["let at = (split * kRows + own_row) * shape.outs + first + own_out;"]
        store += [f"subgroupMatrixStore<col_major>(&out, at + {m * i}u * shape.outs + {16 * j}u, sum_{i}_{j}, shape.outs);" for i, j in pairs]
    else:
        each, store = 16 * tile.outs, []
        for i in range(down):  # 16 rows at a time, in the order of the inputs
            at = f"(own_part * {tile.down}u + own_row / kOwnRows) * {each}u + own_out"
            store += ["workgroupBarrier();", *(f"subgroupMatrixStore<col_major>(&done, {at} + {16 * j}u, sum_{i}_{j}, kOuts);" for j in range(along))]
            store += ["workgroupBarrier();", f"for (var e = thread; e < {each * tile.down}u; e += kThreads) {{", "var sum = 0.0;",
                      f"for (var s = 0u; s < {tile.inner}u; s++) {{ sum += done[s * {each * tile.down}u + e]; }}",
                      f"out[(split * kRows + e / {each}u * kOwnRows + {16 * i}u + e % {each}u / kOuts) * shape.outs + first + e % kOuts] = sum;", "}"]
    if "product" in without:
        body.insert(0, "var eaten = vec4<u32>();")
        store.append("if (all(eaten == vec4(1u))) { out[thread] = 1.0; }")
    if "loop" in without:
        body = [line.replace("step < end", "step < end * shape.zero") for line in body]
    if "all" in without:
        body.insert(0, "if (shape.zero == 0u) { return; }")
    if tile.touch:
        store.append("if (touched == 12345.0h && shape.zero == 7u) { out[thread] = 1.0; }")
    if "store" in without:
        store = ["if (shape.zero == 7u) {", *store, "}"]
    body += store
    halves = (tile.rows + (tile.outs if tile.staged else 0)) * (tile.step + 8)
    place = "(at / kLine * 16u + at % 16u) * kStride + at % kLine / 16u * 8u" if tile.octets else TO
    staged = STAGED.replace("$TO", place) if tile.staged else ""
    if tile.inner > 1:
        staged += f"\nvar<workgroup> done: array<f32, {16 * tile.down * tile.outs * tile.inner}u>;\nconst kOwnRows = {tile.rows // tile.down}u;"
    load_acts = "" if tile.puts == "matrices" else LOAD_ACTS
    if tile.puts == "eighth":
        staged = staged.replace(f"base + kRows * kStride + {place}", "base / 8u + kRows * (kStride / 8u) + " + eighth(place))
        load_acts = load_acts.replace(TO, eighth(TO)).replace("put(base + ", "put(base / 8u + ")
    fields = {
        "LOAD_ACTS": load_acts, "STAGED": staged, "ACT": "f16" if tile.puts == "matrices" else "vec4<u32>", "WEIGHT": "vec4<u32>" if tile.staged else "f16",
        "PLACE": "eighth" if tile.puts == "eighth" else "at", "AT": "let at = 8u * eighth;" if tile.puts == "eighth" else "", "THREADS": tile.threads,
        "STEP": tile.step, "ROWS": tile.rows, "OUTS": tile.outs, "SLICE": halves, "MEMORY": halves * tile.slices, "ALONG": tile.along, "DOWN": tile.down,
        "BODY": "\n  ".join(body), "NUMBER": tile.number}
    text = TEXT
    for key in sorted(fields, key=len, reverse=True):
        text = text.replace(f"${key}", str(fields[key]))
    return text


class Tiled(Problem):
    """Its weights also as float16 tiles."""

    def __init__(self, device, outs: int, inputs: int, max_rows: int, cache_bytes: int) -> None:
        super().__init__(device, outs, inputs, max_rows, cache_bytes)
        self.tiles = {}
        pipeline = pipeline_of(device, TO_TILES)
        for octets in (False, True):
            self.tiles[octets] = [device.create_buffer(size=2 * outs * inputs, usage=USAGE.STORAGE) for _ in self.weights]
            shape = device.create_buffer_with_data(data=np.array([self.units, self.stride, inputs, octets], np.uint32), usage=USAGE.UNIFORM)
            groups = [group_of(device, pipeline, w, t, shape) for w, t in zip(self.weights, self.tiles[octets], strict=True)]
            seconds_of(device, lambda work, groups=groups: [dispatch(work, pipeline, g, -(-self.units // 16), outs // 16) for g in groups])


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


class Kernels:
    """Compiled texts."""

    def __init__(self, device) -> None:
        self.device, self.pipelines = device, {}

    def begin(self, text: str) -> None:
        """Compiles without waiting."""
        if text not in self.pipelines:
            compute = {"module": self.device.create_shader_module(code=text), "entry_point": "main"}
            self.pipelines[text] = self.device.create_compute_pipeline_async(layout="auto", compute=compute)

    def of(self, text: str):
        self.begin(text)
        if hasattr(self.pipelines[text], "sync_wait"):
            self.pipelines[text] = self.pipelines[text].sync_wait()
        return self.pipelines[text]


class Run:
    """A tile on a problem."""

    def __init__(self, device, kernels: Kernels, problem: Tiled, tile: Tile, splits: int, sums, out) -> None:
        self.device, self.problem, self.tile, self.out = device, problem, tile, out
        steps = problem.inputs // tile.step
        self.splits = splits = -(-steps // -(-steps // splits))
        self.workgroups = problem.outs // tile.outs * splits

        def uniform(*values: int):
            return device.create_buffer_with_data(data=np.array(values, np.uint32), usage=USAGE.UNIFORM)

        shape = uniform(problem.outs, problem.inputs, splits, steps, -(-steps // splits), tile.rows, 0, 0)
        self.pipeline, self.reduce = kernels.of(kernel(tile)), kernels.of(REDUCE)
        self.groups = [group_of(device, self.pipeline, w, problem.act["tiles"], sums, shape) for w in problem.tiles[tile.octets]]
        self.reduce_group = group_of(device, self.reduce, sums, out, uniform(problem.outs, splits, tile.rows * problem.outs, 0))

    def multiply(self, work, i: int) -> None:
        dispatch(work, self.pipeline, self.groups[i % len(self.groups)], self.workgroups)

    def add_up(self, work) -> None:
        dispatch(work, self.reduce, self.reduce_group, self.problem.outs // 256, self.tile.rows)

    def error(self) -> float:
        seconds_of(self.device, lambda work: (self.multiply(work, 0), self.add_up(work)))
        outs, rows, n = self.problem.outs, self.tile.rows, 256
        got = np.frombuffer(self.device.queue.read_buffer(self.out, 0, 4 * rows * outs), np.float32).reshape(rows, outs)[:, :n]
        expected = self.problem.expected(rows, n)
        return float(np.abs(got - expected).max() / np.abs(expected).max())


def cache_bytes() -> int:
    """Of the driver's cache of compiled texts."""
    path = os.environ.get("__GL_SHADER_DISK_CACHE_PATH", "/nowhere")
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)


def variants(rows: int) -> list[Tile]:
    now = Tile(rows)
    flat, eight = replace(now, flat=True), replace(now, along=8, loads=4, flat=True)
    staged = replace(now, staged=1, slices=1, octets=True)
    found = [now, replace(now, loads=4), replace(now, puts="sum"), replace(now, puts="matrices"), flat, replace(flat, loads=4), eight, replace(now, slices=1),
             replace(eight, slices=1), replace(now, step=32), replace(now, step=128, loads=8, slices=1), replace(now, outs=256, along=8), replace(now, outs=256),
             replace(now, down=2), replace(now, inner=2), replace(now, roll=True), replace(now, roll=True, slices=1), replace(now, roll=True, slices=1, step=128, loads=4),
             replace(flat, touch=1), replace(flat, touch=2), replace(flat, eights=True), replace(eight, eights=True),
             staged, replace(staged, puts="sum"), replace(staged, puts="matrices"), replace(staged, along=8), replace(staged, step=32, staged=2)]
    found += [replace(now, without=part) for part in ("store", "weights", "weights+store", "loop", "all")] + [replace(staged, without="product+store")]
    return [t for t in found if t.bytes <= 49152 and t.rows * t.step // 8 % t.threads == 0 and t.rows // t.down >= 16
            and (t.puts != "matrices" or t.rows // 16 * (t.step // 16) % (t.threads // 32) == 0)]


def splits_of(tile: Tile, problem: Tiled) -> list[int]:
    """That make one to four workgroups a multiprocessor of 132, or up to 24 subgroups, at least three steps each."""
    tiles, steps = problem.outs // tile.outs, problem.inputs // tile.step
    found = set()
    for each in (2, 3, 4, 5):
        splits = max(1, 132 * each // tiles)
        if splits * 64 // tile.step <= steps // 3 and each * tile.threads <= 768 and splits <= 16:
            found.add(-(-steps // -(-steps // splits)))
    return sorted(found) or [1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", default=["key"], choices=SHAPES)
    parser.add_argument("--rows", type=int, nargs="+", default=[64], choices=(16, 32, 64))
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--null", action="store_true", help="compile with the null backend only")
    args = parser.parse_args()
    started = time.perf_counter()
    device = open_device(args.null)
    tiles = [tile for rows in args.rows for tile in variants(rows)]
    if args.null:
        for text in [TO_TILES, *(kernel(tile) for tile in tiles)]:
            device.create_shader_module(code=text)
        for tile in tiles:
            print(tile, tile.bytes)
        return
    kernels = Kernels(device)
    sums = device.create_buffer(size=1 << 28, usage=USAGE.STORAGE)
    out = device.create_buffer(size=4 * 64 * 10240, usage=USAGE.STORAGE | USAGE.COPY_SRC)
    problems = {name: Tiled(device, *SHAPES[name], 64, 70 << 20) for name in args.shape}
    print(f"problems: {time.perf_counter() - started:.0f} s", flush=True)
    compiled = []
    for tile in tiles:
        kernels.begin(kernel(tile))
    for tile in tiles:  # before the device is warmed up, for it slows down within milliseconds
        if time.perf_counter() - started < 0.5 * args.seconds:
            begin = time.perf_counter()
            kernels.of(kernel(tile))
            compiled.append((tile, time.perf_counter() - begin))
    kernels.of(REDUCE)
    print(f"{len(compiled)} of {len(tiles)} compiled, {time.perf_counter() - started:.0f} s", flush=True)
    smallest = min(problems.values(), key=lambda p: p.outs * p.inputs)
    errors = {tile: Run(device, kernels, smallest, tile, 3, sums, out).error() for tile, _ in compiled if not tile.without and not tile.eights}
    print("wrong:", [str(tile) for tile, error in errors.items() if not error < 0.01] or "none", flush=True)

    reference = Run(device, kernels, problems[args.shape[0]], compiled[0][0], 3, sums, out)

    def warm(seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            seconds_of(device, lambda work: [reference.multiply(work, i) for i in range(200)])

    warm(0.6)
    for number, (tile, seconds) in enumerate(compiled):
        if number % 12 == 0:
            print(f"    the first again: {microseconds(device, reference.multiply):.2f} us", flush=True)
        line = f"{tile!s:40} {seconds:4.1f} s"
        for name, problem in problems.items():
            if time.perf_counter() - started > args.seconds:
                print("out of time", flush=True)
                return
            found = []
            for splits in splits_of(tile, problem):
                run = Run(device, kernels, problem, tile, splits, sums, out)
                found.append((microseconds(device, run.multiply), run.splits, run.workgroups))
            us, splits, workgroups = min(found)
            line += f" | {name} {us:6.2f} us {2 * problem.outs * problem.inputs / us / 1e3:5.0f} GB/s x{splits} " + " ".join(f"({s}: {u:.1f})" for u, s, _ in found)
        print(line, flush=True)
    problem = problems[args.shape[0]]
    for tile in [tile for rows in args.rows for tile in (Tile(rows), Tile(rows, along=8, loads=4, flat=True), Tile(rows, roll=True, slices=1))]:
        sizes, four = [cache_bytes()], []
        for number in range(1, 5):
            four.append(Run(device, kernels, problem, replace(tile, number=number), 3, sums, out))
            sizes.append(cache_bytes())
        warm(0.5)
        one, turns = microseconds(device, four[0].multiply), microseconds(device, lambda work, i, four=four: four[i % 4].multiply(work, i))
        print(f"{tile}: one {one:.2f} us, four in turn {turns:.2f}, bytes", *np.diff(sizes), flush=True)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
