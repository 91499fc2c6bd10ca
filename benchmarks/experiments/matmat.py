"""A Q4_K matrix times many rows of float16 activations by subgroup matrices: tiles and ways of loading that the engine does not have,
beside those that it has.

    python benchmarks/experiments/matmat.py [--shape key output] [--rows 64] [--seconds 40]

Weights in the engine's layout of rows, decoded on their way into workgroup memory; each variant is held against numpy. A line: rows,
tile (rows x outputs x inputs at a time, subgroups over rows/outputs/inputs, where activations come from, slices and steps in turn,
padding, tiles of activations asked for early, matrices of 16 x 8 x 8, sums stored as tiles), workgroups that share a tile, microseconds of the product and of it with the pass that
adds up, Tflop/s. "-loads" and the like leave something out, to see what a kernel waits for: their results are wrong. Copies of the
matrix that together are larger than any cache are read in turn, one dependent dispatch each. Everything is compiled before the device
is warmed up, for it slows down within milliseconds. --null compiles for a device that does nothing, wherever there is no subgroup
matrix. Weights that are float16 tiles in memory: tiles.py.
"""

from __future__ import annotations

import argparse
import re
import time
from dataclasses import dataclass, replace

import numpy as np
import wgpudawn as wgpu
from wgpudawn.backends.dawn import extras

USAGE = wgpu.BufferUsage
SHAPES = {"key": (10240, 2560), "value": (2560, 10240), "output": (2560, 2560), "rkv": (7680, 2560)}


@dataclass(frozen=True)
class Tile:
    rows: int
    outs: int
    step: int = 64
    down: int = 1
    along: int = 4
    inner: int = 1  # subgroups that share the inputs of a step
    acts: str = "memory"  # memory: through workgroup memory; rows, tiles: straight from storage
    slices: int = 1  # 2: in turn, one barrier a step
    ahead: int = 1  # steps whose loads are under way
    pad: int = 8
    without: str = ""  # loads, decode, product, store
    packed: bool = False  # as if the weights lay in the order in which they are loaded
    early: int = 0  # inputs / 16 of a step whose activations are asked for before its weights are decoded; the others one ahead
    short: bool = False  # matrices of 16 x 8 x 8 instead of 16 x 16 x 16: rows of 16 bytes, of which eight are a whole line
    tiled_sums: bool = False  # sums lie in memory as whole tiles of 16 x 16, not row by row

    @property
    def matrix(self) -> tuple[int, int]:
        """Outputs and inputs of a matrix; its rows are 16."""
        return (8, 8) if self.short else (16, 16)

    @property
    def threads(self) -> int:
        return 32 * self.down * self.along * self.inner

    @property
    def bytes(self) -> int:
        rows = self.outs + (self.rows if self.acts == "memory" else 0)
        return rows * (self.step + self.pad) * 2 * self.slices

    def __str__(self) -> str:
        text = f"{self.rows}x{self.outs}x{self.step} {self.down}/{self.along}/{self.inner} {self.acts} "
        text += f"s{self.slices} a{self.ahead} p{self.pad} e{self.early}" + (" packed" if self.packed else "")
        text += (" 16x8x8" if self.short else "") + (" tiled sums" if self.tiled_sums else "")
        return text + (f" -{self.without}" if self.without else "")


HEAD = """enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium_experimental.subgroup_matrix_uniformity);
diagnostic(off, subgroup_uniformity);
@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> act: array<$ACT>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;
const kRows = $ROWSu; const kOuts = $OUTSu; const kStep = $STEPu; const kThreads = $THREADSu;
struct Shape { units: u32, stride: u32, outs: u32, splits: u32, steps: u32, steps_each: u32, inputs: u32, rows: u32 }
@group(0) @binding(3) var<uniform> shape: Shape;
const kRowHalves = kStep + $PADu;
const kWeightsAt = $WEIGHTS_ATu;
const kSlice = $SLICEu;
const kUnitsOfStep = kStep / 32u;
const kUnitsEach = kOuts * kUnitsOfStep / kThreads;
const kOctets = kRows * (kStep / 8u);
const kOctetsEach = (kOctets + kThreads - 1u) / kThreads;
var<workgroup> slice: array<f16, kSlice * $SLICESu>;

fn put_octet(at: u32, octet: vec4<u32>) {
  let a = bitcast<vec2<f16>>(octet.x);
  let b = bitcast<vec2<f16>>(octet.y);
  let c = bitcast<vec2<f16>>(octet.z);
  let d = bitcast<vec2<f16>>(octet.w);
  slice[at] = a.x; slice[at + 1u] = a.y; slice[at + 2u] = b.x; slice[at + 3u] = b.y;
  slice[at + 4u] = c.x; slice[at + 5u] = c.y; slice[at + 6u] = d.x; slice[at + 7u] = d.y;
}
fn code_halves(codes: u32, scale: vec2<f16>, offset: vec2<f16>) -> vec2<u32> {
  let even = bitcast<vec2<f16>>((codes & 0x00ff00ffu) | 0x64006400u) - vec2<f16>(1024.0h);
  let odd = bitcast<vec2<f16>>(((codes >> 8u) & 0x00ff00ffu) | 0x64006400u) - vec2<f16>(1024.0h);
  let a = fma(even, scale, offset);
  let b = fma(odd, scale, offset);
  return vec2(bitcast<u32>(vec2(a.x, b.x)), bitcast<u32>(vec2(a.y, b.y)));
}
struct Unit { codes: vec4<u32>, d: u32, s: u32 }
alias Units = array<Unit, kUnitsEach>;
alias Inputs = array<vec4<u32>, kOctetsEach>;
fn word(i: u32) -> u32 { return weights[i >> 2u][i & 3u]; }
fn load_units(first: u32, step: u32, thread: u32) -> Units {
  var units: Units;
  for (var i = 0u; i < kUnitsEach; i++) {
    let at = thread + i * kThreads;
    let row = (first + at / kUnitsOfStep) * shape.stride;
    let unit = step * kUnitsOfStep + at % kUnitsOfStep;
    let heads = 4u * (row + shape.units);
    units[i] = Unit(weights[row + unit], word(heads + (unit >> 3u)), word(heads + (shape.units >> 3u) + (unit >> 1u)));
  }
  return units;
}
fn put_units(units: Units, step: u32, thread: u32, base: u32) {
  for (var i = 0u; i < kUnitsEach; i++) {
    let at = thread + i * kThreads;
    let to = base + kWeightsAt + at / kUnitsOfStep * kRowHalves + at % kUnitsOfStep * 32u;
    let unit = step * kUnitsOfStep + at % kUnitsOfStep;
    $DECODE
  }
}
fn load_inputs(row: u32, step: u32, thread: u32) -> Inputs {
  var inputs: Inputs;
  $LOAD_INPUTS
  return inputs;
}
fn put_inputs(inputs: Inputs, thread: u32, base: u32) {
  $PUT_INPUTS
}
@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32, @builtin(subgroup_id) subgroup: u32) {
  let first = workgroup.x / shape.splits * kOuts;
  let split = workgroup.x % shape.splits;
  let row = workgroup.y * kRows;
  let begin = split * shape.steps_each;
  let last = min(begin + shape.steps_each, shape.steps);
  let down = subgroup % $DOWNu;
  let along = subgroup / $DOWNu % $ALONGu;
  let inner = subgroup / $DOWN_ALONGu;
  let left = down * (kRows / $DOWNu) * kRowHalves;
  let right = kWeightsAt + along * (kOuts / $ALONGu) * kRowHalves;
  $DECLARE
  $LOOP
  let at = (split * shape.rows + row + down * (kRows / $DOWNu)) * shape.outs + first + along * (kOuts / $ALONGu);
  $STORE
}"""

DECODE = """let s_m = units[i].s >> (16u * (unit & 1u));
    let d = unpack2x16float(units[i].d);
    let scale = vec2<f16>(f16(16.0 * d.x * f32(s_m & 255u)));
    let offset = vec2<f16>(f16(-16.0 * d.y * f32((s_m >> 8u) & 255u)));
    let low = units[i].codes & vec4(0x0f0f0f0fu);
    let high = (units[i].codes >> vec4(4u)) & vec4(0x0f0f0f0fu);
    put_octet(to, vec4(code_halves(low.x, scale, offset), code_halves(low.y, scale, offset)));
    put_octet(to + 8u, vec4(code_halves(low.z, scale, offset), code_halves(low.w, scale, offset)));
    put_octet(to + 16u, vec4(code_halves(high.x, scale, offset), code_halves(high.y, scale, offset)));
    put_octet(to + 24u, vec4(code_halves(high.z, scale, offset), code_halves(high.w, scale, offset)));"""
NO_DECODE = """let c = units[i].codes ^ vec4(units[i].d + units[i].s);
    put_octet(to, c); put_octet(to + 8u, c); put_octet(to + 16u, c); put_octet(to + 24u, c);"""

REDUCE = """@group(0) @binding(0) var<storage, read_write> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> shape: vec4<u32>;
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let at = id.y * shape.x + id.x;
  let place = at;
  var sum = 0.0;
  for (var split = 0u; split < shape.y; split++) { sum += sums[place + split * shape.z]; }
  out[at] = sum * (1.0 / 16.0);
}"""


def kernel(tile: Tile) -> str:
    nn, kk = tile.matrix
    down, along = tile.rows // tile.down // 16, tile.outs // tile.along // nn
    assert down and along and tile.rows % (16 * tile.down) == 0 and tile.outs % (nn * tile.along) == 0
    assert tile.outs * tile.step // 32 % tile.threads == 0
    declare, store, multiply = [], [], []
    for i in range(down):
        for j in range(along):
            declare.append(f"var sum_{i}_{j}: subgroup_matrix_result<f32, {nn}, 16>;")
            if tile.tiled_sums:
                at = f"(at / 16u / shape.outs + {i}u) * 16u * shape.outs + (at % shape.outs / 16u + {j}u) * 256u"
                store.append(f"subgroupMatrixStore<row_major>(&sums, {at}, sum_{i}_{j}, 16u);")
            else:
                store.append(f"subgroupMatrixStore<row_major>(&sums, at + {16 * i}u * shape.outs + {nn * j}u, sum_{i}_{j}, shape.outs);")
    done = ""
    if tile.inner > 1:
        assert tile.down == 1
        each = 256 * tile.along
        done = f"var<workgroup> done: array<f32, {tile.inner * each}u>;\n"
        store = []
        for i in range(down):
            for j in range(along):
                store.append(f"workgroupBarrier();\n  subgroupMatrixStore<row_major>(&done, subgroup * 256u, sum_{i}_{j}, 16u);")
                store.append(f"workgroupBarrier();\n  for (var e = thread; e < {each}u; e += kThreads) {{ var sum = 0.0; "
                             f"for (var l = 0u; l < {tile.inner}u; l++) {{ sum += done[l * {each}u + e]; }} "
                             f"sums[(split * shape.rows + row + {16 * i}u + e % 256u / 16u) * shape.outs + "
                             f"first + e / 256u * (kOuts / {tile.along}u) + {16 * j}u + e % 16u] = sum; }}")
    ks = list(range(0, tile.step, kk * tile.inner))

    def offset(k: int) -> str:
        return f"{k}u" if tile.inner == 1 else f"{k}u + inner * 16u"

    def left_loads(k: int) -> list[str]:
        rows = f"(row + down * (kRows / {tile.down}u)"
        at = {"memory": "&slice, base + left + {i}u * kRowHalves + {k}, kRowHalves",
              "rows": "&act, " + rows + " + {i}u) * shape.inputs + step * kStep + {k}, shape.inputs",
              "tiles": "&act, (" + rows + ") / 16u + {j}u) * (shape.inputs / 16u) * 256u + (step * kStep + {k}) * 16u, " + f"{kk}u"}[tile.acts]
        return [f"let a{k}_{i} = subgroupMatrixLoad<subgroup_matrix_left<f16, {kk}, 16>, row_major>(" + at.format(i=16 * i, j=i, k=offset(k)) + ");"
                for i in range(down)]

    early = [line for k in ks[: tile.early] for line in left_loads(k)]
    for n, k in enumerate(ks):
        if tile.early == 0:
            multiply += left_loads(k)
        elif n + 1 < len(ks) and n + 1 >= tile.early:
            multiply += left_loads(ks[n + 1])
        for j in range(along):
            multiply.append(f"let b{k}_{j} = subgroupMatrixLoad<subgroup_matrix_right<f16, {nn}, {kk}>, col_major>"
                            f"(&slice, base + right + {nn * j}u * kRowHalves + {offset(k)}, kRowHalves);")
        for i in range(down):
            for j in range(along):
                multiply.append(f"sum_{i}_{j} = subgroupMatrixMultiplyAccumulate(a{k}_{i}, b{k}_{j}, sum_{i}_{j});")
    without = tile.without.split("+")
    if "product" in without:
        multiply = ["let a = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&slice, base + left, kRowHalves);",
                    "let b = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&slice, base + right, kRowHalves);",
                    "sum_0_0 = subgroupMatrixMultiplyAccumulate(a, b, sum_0_0);"]
    product, before_all = "\n      ".join(multiply), "\n      ".join(early)
    memory = tile.acts == "memory"
    loads = "loads" not in without

    def load(name: str, step: str, declare_it: bool) -> str:
        prefix = "var " if declare_it else ""
        if not loads and not declare_it:
            return ""
        text = f"{prefix}units{name} = load_units(first, {step}, thread);"
        return text + (f" {prefix}inputs{name} = load_inputs(row, {step}, thread);" if memory else "")

    def turn(name: str, at: str, buffer: str, ahead: str) -> str:
        put = (f"put_inputs(inputs{name}, thread, base);" if memory else "") + f"put_units(units{name}, step, thread, base);"
        before = "workgroupBarrier();" if tile.slices == 1 else ""
        return f"""{{ let step = {at}; let base = {buffer};
      {before_all}
      {before}
      {put}
      workgroupBarrier();
      {load(name, f"min(step + {ahead}, last - 1u)", False)}
      {product} }}"""

    loop = "".join(load(str(a), f"min(begin + {a}u, last - 1u)", True) for a in range(tile.ahead))
    if tile.ahead == 1:
        buffer = "0u" if tile.slices == 1 else "(at & 1u) * kSlice"
        loop += "\n  for (var at = begin; at < last; at++) " + turn("0", "at", buffer, "1u")
    else:
        n = tile.ahead if tile.slices == 1 or tile.ahead % 2 == 0 else 2 * tile.ahead
        turns = [turn(str(a % tile.ahead), f"at + {a}u", "0u" if tile.slices == 1 or a % 2 == 0 else "kSlice", f"{tile.ahead}u") for a in range(n)]
        loop += f"\n  for (var at = begin; at < last; at += {n}u) {{" + turns[0]
        loop += "".join(f"\n if (at + {a}u >= last) {{ break; }} " + turns[a] for a in range(1, n)) + "}"
    if not memory:
        load_inputs = put_inputs = ""
    else:
        guard = tile.rows * tile.step // 8 % tile.threads != 0
        octet = "let octet = thread + i * kThreads;" + (" if (octet < kOctets)" if guard else "")
        body = "{ inputs[i] = act[(row + octet / (kStep / 8u)) * (shape.inputs / 8u) + step * (kStep / 8u) + octet % (kStep / 8u)]; }"
        load_inputs = f"for (var i = 0u; i < kOctetsEach; i++) {{ {octet} {body} }}"
        put = "{ put_octet(base + octet / (kStep / 8u) * kRowHalves + octet % (kStep / 8u) * 8u, inputs[i]); }"
        put_inputs = f"for (var i = 0u; i < kOctetsEach; i++) {{ {octet} {put} }}"
    fields = {
        "$ACT": "vec4<u32>" if memory else "f16", "$ROWS": tile.rows, "$OUTS": tile.outs, "$STEP": tile.step,
        "$THREADS": tile.threads, "$PAD": tile.pad, "$WEIGHTS_AT": tile.rows * (tile.step + tile.pad) if memory else 0,
        "$SLICES": tile.slices, "$SLICE": tile.bytes // 2 // tile.slices, "$DECODE": NO_DECODE if "decode" in without else DECODE,
        "$LOAD_INPUTS": load_inputs, "$PUT_INPUTS": put_inputs, "$DOWN_ALONG": tile.down * tile.along, "$DOWN": tile.down,
        "$ALONG": tile.along, "$INNER": tile.inner, "$DECLARE": "\n  ".join(declare), "$LOOP": loop, "$STORE": "\n  ".join(store)}
    text = HEAD.replace("fn put_octet(", done + "fn put_octet(", 1)
    if tile.packed:
        text = text.replace("weights[row + unit]", "weights[first * shape.stride + (step * kOuts * kUnitsOfStep + at) % (kOuts * shape.units)]")
    if "left" in without:
        fields["$DECLARE"] += "\n" + "\n".join(left_loads(0)).replace("step", "begin").replace("inner", "0u").replace("let a0", "let h")
        fields["$LOOP"] = re.sub(r"let a(\d+)_(\d+) = .*;", r"let a\1_\2 = h_\2;", fields["$LOOP"])
    if "puts" in without:
        rarely = "if (c.x == 7.0h && d.y == 5.0h && b.x == 3.0h) { slice[at + 1u] = a.y; }"
        text = text.replace("slice[at + 1u] = a.y; slice[at + 2u] = b.x; slice[at + 3u] = b.y;", rarely).replace(
            "slice[at + 4u] = c.x; slice[at + 5u] = c.y; slice[at + 6u] = d.x; slice[at + 7u] = d.y;", "")
    if "end" in without:
        fields["$STORE"] = "if (weights[split].x == 1234567u) { " + fields["$STORE"] + "}"
    if "barriers" in without:
        fields["$LOOP"] = fields["$LOOP"].replace("workgroupBarrier();", "")
    for key in sorted(fields, key=len, reverse=True):
        text = text.replace(key, str(fields[key]))
    return text


class Problem:
    """Random weights in the engine's layout of rows, and float16 activations."""

    def __init__(self, device, outs: int, inputs: int, max_rows: int, cache_bytes: int) -> None:
        rng = np.random.default_rng(0)
        self.outs, self.inputs = outs, inputs
        units = inputs // 32
        self.stride = -(-(16 * units + units // 2 + 2 * units) // 16)
        record = np.zeros((outs, self.stride * 4), np.uint32)
        record[:, : 4 * units] = rng.integers(0, 2**32, (outs, 4 * units), dtype=np.uint32)
        self.d = rng.uniform(1e-4, 1e-3, (2, outs, units // 8)).astype(np.float16)
        record[:, 4 * units : 4 * units + units // 8] = np.ascontiguousarray(self.d.transpose(1, 2, 0)).view(np.uint32)[..., 0]
        self.s_m = rng.integers(0, 64, (outs, units, 2), dtype=np.uint8)
        record[:, 4 * units + units // 8 : 4 * units + units // 8 + units // 2] = self.s_m.reshape(outs, -1).view(np.uint32)
        self.record, self.units = record, units
        n = max(2, -(-cache_bytes // record.nbytes))
        self.weights = [device.create_buffer_with_data(data=record, usage=USAGE.STORAGE) for _ in range(n)]
        self.x = rng.standard_normal((max_rows, inputs)).astype(np.float16)
        tiled = {name: self.x.reshape(max_rows // 16, 16, inputs // n, n).transpose(0, 2, 1, 3) for name, n in (("tiles", 16), ("short tiles", 8))}
        self.act = {name: device.create_buffer_with_data(data=np.ascontiguousarray(values), usage=USAGE.STORAGE)
                    for name, values in (("rows", self.x), *tiled.items())}

    def expected(self, rows: int, n: int) -> np.ndarray:
        """[rows, n] of the outputs."""
        codes = self.record[:n, : 4 * self.units].copy().view(np.uint8).reshape(n, self.units, 16)
        q = np.concatenate([codes & 15, codes >> 4], axis=2).astype(np.float32)
        scale, low = (np.repeat(self.d[i, :n].astype(np.float32), 8, axis=1) * self.s_m[:n, :, i] for i in range(2))
        return self.x[:rows].astype(np.float32) @ (q * scale[..., None] - low[..., None]).reshape(n, -1).T


def open_device(null: bool):
    extras.set_instance_extras(enable_toggles=["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia", "skip_validation", "disable_robustness",
                                               "disable_polyfills_on_integer_div_and_mod"], disable_toggles=["timestamp_quantization"])
    features = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"]
    if null:
        from wgpudawn.backends.dawn._ffi import ffi, lib

        adapter = wgpu.gpu._request_adapter("core", "high-performance", False, ffi.NULL, lib.WGPUBackendType_Null).sync_wait()
    else:
        adapter = wgpu.gpu.request_adapter_sync(power_preference="high-performance")
    names = ("max-buffer-size", "max-storage-buffer-binding-size", "max-compute-workgroup-storage-size",
             "max-compute-invocations-per-workgroup")
    limits = {name: adapter.limits[name] for name in names}
    print(adapter.info["device"], limits, flush=True)
    return adapter.request_device_sync(required_features=features, required_limits=limits)


def pipeline_of(device, text: str):
    return device.create_compute_pipeline(layout="auto", compute={"module": device.create_shader_module(code=text), "entry_point": "main"})


def group_of(device, pipeline, *buffers):
    return device.create_bind_group(layout=pipeline.get_bind_group_layout(0), entries=[
        {"binding": i, "resource": {"buffer": b, "offset": 0, "size": b.size}} for i, b in enumerate(buffers)])


class Run:
    """A tile, rows and splits on a shape, compiled."""

    def __init__(self, device, problem: Problem, shape: str, tile: Tile, rows: int, splits: int, sums, out) -> None:
        self.device, self.problem, self.shape, self.tile, self.rows, self.splits = device, problem, shape, tile, rows, splits
        self.sums, self.out = sums, out
        outs = problem.outs
        self.rows_alloc = -(-rows // tile.rows) * tile.rows
        self.workgroups = (outs // tile.outs * splits, self.rows_alloc // tile.rows)
        steps = problem.inputs // tile.step
        shape = [problem.inputs // 32, problem.stride, outs, splits, steps, -(-steps // splits), problem.inputs, self.rows_alloc]
        self.shapes = [device.create_buffer_with_data(data=np.array(v, np.uint32), usage=USAGE.UNIFORM)
                       for v in (shape, [outs, splits, self.rows_alloc * outs, 0])]
        of_tiles = "let place = id.y / 16u * 16u * shape.x + id.x / 16u * 256u + id.y % 16u * 16u + id.x % 16u;"
        self.texts = (kernel(tile), REDUCE.replace("let place = at;", of_tiles) if tile.tiled_sums else REDUCE)

    def finish(self, pipelines: dict) -> None:
        for text in self.texts:
            if text not in pipelines:
                pipelines[text] = pipeline_of(self.device, text)
        self.product, self.reduce = (pipelines[text] for text in self.texts)
        act = self.problem.act["rows" if self.tile.acts != "tiles" else "short tiles" if self.tile.short else "tiles"]
        self.groups = [group_of(self.device, self.product, w, act, self.sums, self.shapes[0]) for w in self.problem.weights]
        self.reduce_group = group_of(self.device, self.reduce, self.sums, self.out, self.shapes[1])

    def run(self, n: int, both: bool) -> float:
        encoder = self.device.create_command_encoder()
        work = encoder.begin_compute_pass()
        for i in range(n):
            work.set_pipeline(self.product)
            work.set_bind_group(0, self.groups[i % len(self.groups)])
            work.dispatch_workgroups(*self.workgroups)
            if both:
                work.set_pipeline(self.reduce)
                work.set_bind_group(0, self.reduce_group)
                work.dispatch_workgroups(self.problem.outs // 256, self.rows)
        work.end()
        commands = encoder.finish()
        begin = time.perf_counter()
        self.device.queue.submit([commands])
        self.device.queue.on_submitted_work_done_sync()
        return time.perf_counter() - begin

    def error(self) -> float:
        self.run(1, True)
        outs = self.problem.outs
        n, rows = 256, min(self.rows, 256)
        got = np.frombuffer(self.device.queue.read_buffer(self.out, 0, 4 * rows * outs), np.float32).reshape(rows, outs)[:, :n]
        expected = self.problem.expected(rows, n)
        return float(np.abs(got - expected).max() / np.abs(expected).max())

    def measure(self) -> tuple[float, float]:
        """Seconds of the product and of it with its reduction; what a submit takes by itself is among them, some 30 us in all."""
        n = max(8, int(0.004 / (self.run(16, True) / 16)))
        alone, both = (min(self.run(n, b) for _ in range(3)) / n for b in (False, True))
        return alone, both


BASE = {32: Tile(32, 64, 64, 2, 2), 64: Tile(64, 64, 64, 2, 2), 128: Tile(128, 128, 64, 2, 4)}


def variants(rows: int) -> list[tuple[Tile, list[int]]]:
    """Tiles, and how many workgroups to aim at."""
    if rows < 32:
        return [(Tile(16, 32, 64, 1, 1, acts="tiles"), [1056, 2112])]
    if rows > 64:
        tiles = Tile(128, 128, 64, 2, 2, acts="tiles")
        found = [(replace(tiles, early=1), [264]), (replace(tiles, early=1, tiled_sums=True), [264]), (replace(tiles, early=1, without="end"), [264])]
        found += [(BASE[128], [264, 528]), (replace(BASE[128], ahead=2), [264]), (Tile(128, 128, 64, 2, 2), [264])]
        found += [(replace(tiles, early=e), [264]) for e in (0, 2)] + [(replace(tiles, down=d, along=4 // d), [264]) for d in (1, 4)]
        found += [(replace(tiles, outs=64, along=1), [264, 528]), (replace(tiles, outs=256, along=4), [264])]
        found += [(replace(x, short=True), [264]) for x in (tiles, replace(tiles, early=1), replace(tiles, outs=64, along=1))]
        found += [(replace(tiles, without=w), [264]) for w in ("left", "decode", "loads", "barriers", "end")]
        if rows > 256:
            found += [(replace(tiles, rows=256, down=4), [264]), (replace(tiles, rows=256, down=4, outs=64, along=1), [264])]
        return found
    one = Tile(rows, 32, 64, 1, 1, acts="tiles")
    four = Tile(rows, 128, 64, 1, 4, acts="tiles", early=4)
    base = BASE[32 if rows <= 32 else 64]
    found = [(base, [528]), (replace(base, ahead=2), [528]), (replace(base, slices=2), [528]), (one, [1056, 2112]), (four, [264, 528])]
    found += [(replace(x, packed=True), [n]) for x, n in ((one, 1056), (four, 264), (base, 528))]
    without = ("loads", "decode", "product", "puts", "end", "barriers", "loads+product")
    found += [(replace(base, without=w), [528]) for w in without]
    found += [(replace(x, without=w), [n]) for x, n in ((one, 1056), (four, 264)) for w in ("left", "loads", "loads+left", "loads+left+decode")]
    found += [(Tile(rows, 32, 256, 1, 1, 4, acts="tiles", early=4), [640]), (Tile(rows, 64, 128, 1, 2, 2, acts="tiles", early=2), [528])]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", default=["key"], choices=SHAPES)
    parser.add_argument("--rows", type=int, nargs="+", default=[64])
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--few", action="store_true", help="of the variants the first three only")
    parser.add_argument("--null", action="store_true", help="compile with the null backend only")
    args = parser.parse_args()
    started = time.perf_counter()
    device = open_device(args.null)
    if args.null:
        for tile, _ in (pair for rows in args.rows for pair in variants(rows)):
            device.create_shader_module(code=kernel(tile))
            print(tile, tile.bytes, "bytes of workgroup memory")
        return
    sums = device.create_buffer(size=1 << 28, usage=USAGE.STORAGE)
    out = device.create_buffer(size=4 * 10240 * 2048, usage=USAGE.STORAGE | USAGE.COPY_SRC)
    problems = {shape: Problem(device, *SHAPES[shape], max(256, *args.rows), 100 << 20) for shape in args.shape}
    runs: list[Run] = []

    def add(shape: str, rows: int, grid: list[tuple[Tile, list[int]]]) -> None:
        outs, inputs = SHAPES[shape]
        seen = set()
        for tile, targets in grid:
            for target in targets:
                tiles = outs // tile.outs * -(-rows // tile.rows)
                steps = inputs // tile.step
                splits = min(max(1, round(target / tiles)), max(1, steps // 2), 32)
                splits = -(-steps // -(-steps // splits))
                if (tile, splits) not in seen and splits * tile.inner * rows * outs * 4 < sums.size:
                    runs.append(Run(device, problems[shape], shape, tile, rows, splits, sums, out))
                seen.add((tile, splits))

    for shape in args.shape:
        for rows in args.rows:
            add(shape, rows, variants(rows)[:3] if args.few else variants(rows))
    pipelines: dict = {}
    for r in runs:
        if time.perf_counter() - started < 0.7 * args.seconds:
            r.finish(pipelines)
    runs = [r for r in runs if hasattr(r, "product")]
    print(f"{len(runs)} compiled, {time.perf_counter() - started:.0f} s", flush=True)
    errors = {}
    for r in runs:
        key = (r.shape, r.tile)
        if key not in errors and not r.tile.without and not r.tile.packed:
            errors[key] = r.error()
    print("largest error", max(errors.values()), [str(k) for k, v in errors.items() if v > 0.01], f"{time.perf_counter() - started:.0f} s", flush=True)
    end = time.perf_counter() + 0.6
    while time.perf_counter() < end:
        runs[0].run(200, True)
    for i, r in enumerate(runs):
        if time.perf_counter() - started > args.seconds:
            print("out of time", flush=True)
            break
        if i % 20 == 0:
            print(f"    reference {1e6 * runs[0].measure()[0]:.2f} us", flush=True)
        alone, both = r.measure()
        flops = 2 * r.rows * r.problem.outs * r.problem.inputs
        print(f"{r.shape:6} {r.rows:5} {str(r.tile):44} x{r.splits:2} {r.workgroups[0] * r.workgroups[1]:5} wg {1e6 * alone:8.2f} us {1e6 * both:8.2f} us "
              f"{flops / alone / 1e12:6.1f} Tf", flush=True)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
