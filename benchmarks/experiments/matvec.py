"""One Q4_K matrix times a vector, in layouts and ways of loading that the engine does not have, beside the one that it has.

    python benchmarks/experiments/matvec.py [--rows 10240] [--columns 2560] [--adapter NAME]

A matrix of 4-bit codes with scale and minimum per 32 values (a unit), activations as int8 with dot4I8Packed: the engine's arithmetic.
All variants compute the same and are held against numpy. Copies of the matrix that together are larger than any cache are read in
turn, one dependent dispatch each; time is the wall clock of many, after warming up, median of seven.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import wgpudawn as wgpu

WARM_SECONDS = 0.4
TEXTURE_WIDTH = 8192

COMMON = """
const R = {rows}u; const U = {units}u; const L = {lanes}u;
$CODES
@group(0) @binding(1) var<storage, read> scales: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<vec4<u32>>;  // int8: first halves of all units, second halves; then (d, d * sum)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
fn at(row: u32, unit: u32) -> u32 {{ return $AT; }}
fn at8(row: u32, unit: u32) -> u32 {{ return $AT8; }}
fn scale_of(row: u32, unit: u32) -> vec2<f32> {{ $SCALE }}
fn product(code: vec4<u32>, row: u32, unit: u32) -> f32 {{
  let low = code & vec4(0x0f0f0f0fu);
  let high = (code >> vec4(4u)) & vec4(0x0f0f0f0fu);
  let a = x[unit];
  let b = x[U + unit];
  let head = bitcast<vec4<f32>>(x[2u * U + unit]);
  let sum = dot4I8Packed(low.x, a.x) + dot4I8Packed(low.y, a.y) + dot4I8Packed(low.z, a.z) + dot4I8Packed(low.w, a.w) +
            dot4I8Packed(high.x, b.x) + dot4I8Packed(high.y, b.y) + dot4I8Packed(high.z, b.z) + dot4I8Packed(high.w, b.w);
  let s = scale_of(row, unit);
  return s.x * head.x * f32(sum) - s.y * head.y;
}}
"""

BUFFER = "@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>;\nfn code_at(i: u32) -> vec4<u32> { return codes[i]; }"
WORDS = """@group(0) @binding(0) var<storage, read> codes: array<u32>;
fn code_at(i: u32) -> vec4<u32> { return vec4(codes[4u * i], codes[4u * i + 1u], codes[4u * i + 2u], codes[4u * i + 3u]); }"""
TEXTURE = f"""@group(0) @binding(0) var codes: texture_2d<u32>;
fn code_at(i: u32) -> vec4<u32> {{ return textureLoad(codes, vec2(i % {TEXTURE_WIDTH}u, i / {TEXTURE_WIDTH}u), 0); }}"""

# y = d s q - dmin m: d, dmin as a pair of halves per 8 units, behind the s and m.
HEADS = "let d = unpack2x16float(scales[$HEADS_ATu + at8(row, unit)]); "
BYTES = HEADS + "let w = scales[at(row, unit) >> 1u] >> (16u * (at(row, unit) & 1u)); return d * vec2(f32(w & 255u), f32((w >> 8u) & 255u));"
SIX_BITS = HEADS + """
  let base = 12u * at8(row, unit); let j = unit & 7u;
  let q0 = (scales[(base + j) >> 2u] >> (8u * ((base + j) & 3u))) & 255u;
  let q4 = (scales[(base + j + 4u) >> 2u] >> (8u * ((base + j + 4u) & 3u))) & 255u;
  if (j < 4u) { return d * vec2(f32(q0 & 63u), f32(q4 & 63u)); }
  let q8 = (scales[(base + j - 4u) >> 2u] >> (8u * ((base + j - 4u) & 3u))) & 255u;
  return d * vec2(f32((q4 & 15u) | ((q8 >> 6u) << 4u)), f32((q4 >> 4u) | ((q0 >> 6u) << 4u)));"""
FLOATS = "return vec2(bitcast<f32>(scales[2u * at(row, unit)]), bitcast<f32>(scales[2u * at(row, unit) + 1u]));"

BY_ROWS = ("row * U + unit", "row * (U / 8u) + (unit >> 3u)")
TRANSPOSED = ("unit * R + row", "(unit >> 3u) * R + row")
TILED = ("((row >> 3u) * U + unit) * 8u + (row & 7u)", "((row >> 3u) * (U / 8u) + (unit >> 3u)) * 8u + (row & 7u)")

# L neighbouring threads share a row.
ROWS_MAIN = """
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let lane = thread % L;
  let row = group.x * (256u / L) + thread / L;
  var sum = 0.0;
  for (var unit = lane; unit < U; unit += L) { sum += product(code_at(at(row, unit)), row, unit); }
  for (var i = 1u; i < L; i *= 2u) { sum += subgroupShuffleXor(sum, i); }
  if (lane == 0u) { y[row] = sum; }
}"""
# Neighbouring threads take neighbouring rows ($ROWS of them); the other threads of a workgroup take other units of the same rows.
COLUMNS_MAIN = """
var<workgroup> sums: array<f32, 256>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let local = thread % $ROWSu;
  let part = thread / $ROWSu;
  let row = group.x * $ROWSu + local;
  var sum = 0.0;
  for (var unit = part; unit < U; unit += 256u / $ROWSu) { sum += product(code_at(at(row, unit)), row, unit); }
  sums[thread] = sum;
  for (var i = 128u; i >= $ROWSu; i /= 2u) {
    workgroupBarrier();
    if (thread < i) { sums[thread] += sums[thread + i]; }
  }
  if (part == 0u) { y[row] = sums[local]; }
}"""
# As ROWS_MAIN, but the codes of the next step are on their way to workgroup memory while a step is multiplied.
STAGED_MAIN = """
var<workgroup> staged: array<vec4<u32>, $BUFFERSu * 256u>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let lane = thread % L;
  let row = group.x * (256u / L) + thread / L;
  var sum = 0.0;
  staged[thread] = code_at(at(row, min(lane, U - 1u)));
  for (var step = 0u; step * L < U; step++) {
    let unit = step * L + lane;
    let next = min(unit + L, U - 1u);
    let buffer = 256u * (step % $BUFFERSu);
    $LOAD_EARLY
    workgroupBarrier();
    if (unit < U) { sum += product(staged[buffer + thread], row, unit); }
    $LOAD_LATE
  }
  for (var i = 1u; i < L; i *= 2u) { sum += subgroupShuffleXor(sum, i); }
  if (lane == 0u) { y[row] = sum; }
}"""
DOUBLE = {"$BUFFERS": "2", "$LOAD_EARLY": "staged[256u * ((step + 1u) % 2u) + thread] = code_at(at(row, next));", "$LOAD_LATE": "workgroupBarrier();"}
SINGLE = {"$BUFFERS": "1", "$LOAD_EARLY": "", "$LOAD_LATE": "workgroupBarrier();\n    staged[thread] = code_at(at(row, next));"}

# name: loads, layout, scales, main
VARIANTS = {
    "by rows, 16-byte loads, byte scales (the engine)": (BUFFER, BY_ROWS, BYTES, ROWS_MAIN),
    "  four 4-byte loads": (WORDS, BY_ROWS, BYTES, ROWS_MAIN),
    "  6-bit scales as in the file": (BUFFER, BY_ROWS, SIX_BITS, ROWS_MAIN),
    "  scales multiplied out, float32": (BUFFER, BY_ROWS, FLOATS, ROWS_MAIN),
    "  codes in a texture": (TEXTURE, BY_ROWS, BYTES, ROWS_MAIN),
    "  codes through workgroup memory": (BUFFER, BY_ROWS, BYTES, STAGED_MAIN, SINGLE),
    "  the same, double-buffered": (BUFFER, BY_ROWS, BYTES, STAGED_MAIN, DOUBLE),
    "transposed, 32 rows side by side": (BUFFER, TRANSPOSED, BYTES, COLUMNS_MAIN, {"$ROWS": "32"}),
    "tiled, 8 rows side by side": (BUFFER, TILED, BYTES, COLUMNS_MAIN, {"$ROWS": "8"}),
}


class Problem:
    """The matrix and the vector, and what their product is."""

    def __init__(self, rows: int, columns: int) -> None:
        rng = np.random.default_rng(0)
        self.rows, self.units = rows, columns // 32
        shape = (rows, self.units)
        self.codes = rng.integers(0, 2**32, (*shape, 4), dtype=np.uint32)
        self.s, self.m = rng.integers(0, 64, (2, *shape), dtype=np.uint32)
        self.d = rng.uniform(1e-4, 1e-3, (2, rows, self.units // 8)).astype(np.float16)
        self.x = rng.integers(-127, 128, (self.units, 32)).astype(np.int8)
        self.x_scale = rng.uniform(0.01, 0.02, self.units).astype(np.float32)
        q = self.codes.view(np.uint8).reshape(*shape, 16)
        q = np.concatenate([q & 15, q >> 4], axis=2).astype(np.float32)
        dots = np.einsum("rui,ui->ru", q, self.x.astype(np.float32))
        scale, minimum = (np.repeat(d.astype(np.float32), 8, axis=1) * v for d, v in zip(self.d, (self.s, self.m), strict=True))
        sums = self.x_scale * self.x.astype(np.float32).sum(1)
        self.float_scales = np.stack([scale, minimum], axis=2).astype(np.float32)
        self.expected = (scale * dots * self.x_scale - minimum * sums).sum(1)
        heads = np.zeros((self.units, 4), np.float32)
        heads[:, 0], heads[:, 1] = self.x_scale, sums
        self.input = np.concatenate([self.x[:, :16].copy().view(np.uint32), self.x[:, 16:].copy().view(np.uint32), heads.view(np.uint32)])

    def order(self, layout: tuple[str, str], array: np.ndarray) -> np.ndarray:
        """[rows, units or groups of 8, ...] in a layout's order."""
        if layout is TRANSPOSED:
            return np.ascontiguousarray(array.swapaxes(0, 1))
        if layout is TILED:
            tiled = array.reshape(self.rows // 8, 8, *array.shape[1:])
            return np.ascontiguousarray(tiled.swapaxes(1, 2))
        return np.ascontiguousarray(array)

    def scales(self, layout: tuple[str, str], kind: str) -> tuple[np.ndarray, int]:
        """Words, and where the pairs of halves begin."""
        if kind is FLOATS:
            return self.order(layout, self.float_scales).view(np.uint32).reshape(-1), 0
        if kind is SIX_BITS:
            s, m = (v.reshape(self.rows, -1, 8).astype(np.uint8) for v in (self.s, self.m))
            packed = np.concatenate([s[..., :4] | (s[..., 4:] >> 4) << 6, m[..., :4] | (m[..., 4:] >> 4) << 6, (s[..., 4:] & 15) | (m[..., 4:] & 15) << 4], axis=2)
            words = self.order(layout, packed.astype(np.uint8)).reshape(-1).view(np.uint32)
        else:
            words = self.order(layout, (self.s | self.m << 8).astype(np.uint16)).reshape(-1).view(np.uint32)
        heads = self.order(layout, np.stack(list(self.d), axis=2)).reshape(-1).view(np.uint32)
        return np.concatenate([words, heads]), len(words)


def pick_adapter(name: str | None) -> wgpu.GPUAdapter:
    adapters = wgpu.gpu.enumerate_adapters_sync()
    order = {"DiscreteGPU": 0, "IntegratedGPU": 1}
    adapters.sort(key=lambda a: order.get(a.info["adapter_type"], 2))
    return next(a for a in adapters if name is None or name.lower() in a.info["device"].lower())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10240)
    parser.add_argument("--columns", type=int, default=2560)
    parser.add_argument("--adapter", help="part of its name")
    parser.add_argument("--copies", type=int, default=24)
    parser.add_argument("--lanes", type=int, default=16, help="threads of a row; at most a subgroup")
    args = parser.parse_args()
    adapter = pick_adapter(args.adapter)
    limits = {name: adapter.limits[name] for name in ("max-buffer-size", "max-storage-buffer-binding-size")}
    device = adapter.request_device_sync(required_features=["subgroups"], required_limits=limits)
    problem = Problem(args.rows, args.columns)
    print(f"{adapter.info['device']}: {args.rows} x {args.columns}, {args.copies} copies", flush=True)
    baseline = 0.0
    for name, variant in VARIANTS.items():
        seconds, n_bytes, error = measure(device, problem, variant, args.copies, args.lanes)
        baseline = baseline or seconds
        print(f"{name:50} {1e6 * seconds:8.2f} us {n_bytes / seconds / 1e9:8.1f} GB/s  {baseline / seconds:5.2f} x  error {error:.1e}", flush=True)


def measure(device: wgpu.GPUDevice, problem: Problem, variant: tuple, copies: int, lanes: int) -> tuple[float, int, float]:
    """(seconds of a dispatch, bytes of weights, largest error relative to the largest value)."""
    loads, layout, scale_kind, body, *more = variant
    scales, heads_at = problem.scales(layout, scale_kind)
    text = COMMON.format(rows=problem.rows, units=problem.units, lanes=lanes)
    fields = {"$CODES": loads, "$AT8": layout[1], "$AT": layout[0], "$SCALE": scale_kind.replace("$HEADS_AT", str(heads_at))}
    text += body
    for key, value in (fields | (more[0] if more else {})).items():
        text = text.replace(key, value)
    enable = "enable subgroups;\n" if "subgroup" in body else ""
    pipeline = device.create_compute_pipeline(
        layout="auto", compute={"module": device.create_shader_module(code=enable + text), "entry_point": "main"}
    )
    codes = problem.order(layout, problem.codes)
    x = device.create_buffer_with_data(data=problem.input, usage=wgpu.BufferUsage.STORAGE)
    y = device.create_buffer(size=4 * problem.rows, usage=wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC)
    groups = []
    for _ in range(copies):
        if loads is TEXTURE:
            size = (TEXTURE_WIDTH, -(-codes.size // 4 // TEXTURE_WIDTH), 1)
            padded = np.zeros(4 * size[0] * size[1], np.uint32)
            padded[: codes.size] = codes.reshape(-1)
            texture = device.create_texture(size=size, format="rgba32uint", usage=wgpu.TextureUsage.TEXTURE_BINDING | wgpu.TextureUsage.COPY_DST)
            device.queue.write_texture({"texture": texture}, padded, {"bytes_per_row": 16 * TEXTURE_WIDTH, "rows_per_image": size[1]}, size)
            first = texture.create_view()
        else:
            first = {"buffer": device.create_buffer_with_data(data=codes, usage=wgpu.BufferUsage.STORAGE)}
        others = [{"buffer": b} for b in (device.create_buffer_with_data(data=scales, usage=wgpu.BufferUsage.STORAGE), x, y)]
        entries = [{"binding": i, "resource": r} for i, r in enumerate([first, *others])]
        groups.append(device.create_bind_group(layout=pipeline.get_bind_group_layout(0), entries=entries))
    rows_each = int(more[0]["$ROWS"]) if body is COLUMNS_MAIN else 256 // lanes
    assert problem.rows % rows_each == 0

    def run(n: int) -> float:
        encoder = device.create_command_encoder()
        work = encoder.begin_compute_pass()
        work.set_pipeline(pipeline)
        for i in range(n):
            work.set_bind_group(0, groups[i % copies])
            work.dispatch_workgroups(problem.rows // rows_each)
        work.end()
        commands = encoder.finish()
        begin = time.perf_counter()
        device.queue.submit([commands])
        device.queue.on_submitted_work_done_sync()
        return time.perf_counter() - begin

    run(copies)
    got = np.frombuffer(device.queue.read_buffer(y), np.float32)
    error = float(np.abs(got - problem.expected).max() / np.abs(problem.expected).max())
    end = time.perf_counter() + WARM_SECONDS
    n = copies
    once = run(n)
    while time.perf_counter() < end:
        once = run(n)
    n = max(copies, int(0.01 / once) * copies)  # about ten milliseconds
    # What a submit costs by itself is taken off: the difference of a long and a short run.
    seconds = statistics.median((run(2 * n) - run(n)) / n for _ in range(7))
    return seconds, codes.nbytes + scales.nbytes, error


if __name__ == "__main__":
    main()
