"""Microbench: one Q4_K matrix times C int8 columns. Variants (mode, R, C, L, W, wg)."""
import sys, time, statistics, argparse, os
import numpy as np
import wgpudawn as wgpu
p = argparse.ArgumentParser(); p.add_argument("--adapter"); p.add_argument("--quick", action="store_true"); p.add_argument("--out", default="")
args = p.parse_args()
ads = wgpu.gpu.enumerate_adapters_sync()
order = {"DiscreteGPU": 0, "IntegratedGPU": 1}
ads.sort(key=lambda a: order.get(a.info["adapter_type"], 2))
ad = next(a for a in ads if args.adapter is None or args.adapter.lower() in a.info["device"].lower())
dev = ad.request_device_sync(required_features=["subgroups"], required_limits={k: ad.limits[k] for k in ("max-buffer-size","max-storage-buffer-binding-size","max-compute-invocations-per-workgroup","max-compute-workgroup-size-x","max-compute-workgroup-storage-size")})
print(ad.info["device"], flush=True)
BU = wgpu.BufferUsage

HEAD = """enable subgroups;
@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> act: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
struct Packed { codes: vec4<u32>, d: u32, s: u32 }
struct Block { low: vec4<u32>, high: vec4<u32>, scale: f32, offset: f32 }
fn word(i: u32) -> u32 { return weights[i >> 2u][i & 3u]; }
fn load(row: u32, unit: u32) -> Packed {
  let heads = 4u * (row + UNITS);
  return Packed(weights[row + unit], word(heads + (unit >> 3u)), word(heads + UNITS / 8u + (unit >> 1u)));
}
fn unpack(p: Packed, unit: u32, exists: bool) -> Block {
  let d = unpack2x16float(p.d);
  let sm = p.s >> (16u * (unit & 1u));
  let e = select(0.0, 1.0, exists);
  return Block(p.codes & vec4(0x0f0f0f0fu), (p.codes >> vec4(4u)) & vec4(0x0f0f0f0fu), e * d.x * f32(sm & 255u), -e * d.y * f32((sm >> 8u) & 255u));
}
fn half_dot(a: vec4<u32>, b: vec4<u32>) -> i32 {
  return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}
fn dotb(b: Block, low: vec4<u32>, high: vec4<u32>, head: vec4<f32>, acc: f32) -> f32 {
  return fma(f32(half_dot(b.low, low) + half_dot(b.high, high)) * b.scale, head.x, fma(b.offset, head.w, acc));
}
"""

def butterfly(n, L):
    """sums s0..s{n-1} over L lanes; returns code, number left per lane, expression of base index by lane."""
    out = []; o = L // 2; names = [f"s{i}" for i in range(n)]; bits = []
    t = 0
    while o >= 1:
        if len(names) > 1:
            half = (len(names) + 1) // 2
            new = []
            for i in range(half):
                a = names[i]; b = names[i + half] if i + half < len(names) else "0.0"
                v = f"t{t}"; t += 1
                out.append(f"let {v} = select({a}, {b}, up{o}) + subgroupShuffleXor(select({b}, {a}, up{o}), {o}u);")
                new.append(v)
            bits.append((o, half)); names = new
        else:
            v = f"t{t}"; t += 1
            out.append(f"let {v} = {names[0]} + subgroupShuffleXor({names[0]}, {o}u);"); names = [v]
        o //= 2
    ups = "".join(f"let up{o} = (lane & {o}u) != 0u;\n" for o, _ in bits)
    base = " + ".join(f"select(0u, {h}u, up{o})" for o, h in bits) or "0u"
    lowest = min((o for o, _ in bits), default=L)
    return ups + "\n".join(out), names, base, lowest

def gen(rows, units, mode, R, C, L, W, wg, ahead):
    G = wg // (L * W)
    steps = -(-units // (L * W)); exact = steps * L * W == units
    stride = (units * 16 + units // 8 * 4 + units * 2 + 15) // 16
    t = HEAD.replace("UNITS", f"{units}u")
    n = R * C
    if mode == "smem":
        t += f"var<workgroup> xs: array<vec4<u32>, {C * 3 * units}>;\n"
        X = "xs"
    else: X = "act"
    if W > 1: t += f"var<workgroup> part: array<f32, {wg // L * n}>;\n"
    t += f"""@compute @workgroup_size({wg})
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {{
let lane = thread % {L}u; let slice = thread / {L}u % {W}u; let group = thread / {L * W}u;
let first = group_id.x * {G * R}u + group * {R}u;
let col0 = group_id.y * {C}u;
"""
    for r in range(R): t += f"let row{r} = min(first + {r}u, {rows - 1}u) * {stride}u;\n"
    for i in range(n): t += f"var s{i} = 0.0;\n"
    def loads(s, dst):
        u = f"{s} * {L * W}u + slice * {L}u + lane"
        o = f"let w{dst} = {u};\nlet u{dst} = " + (f"w{dst}" if exact else f"min(w{dst}, {units - 1}u)") + ";\n"
        for r in range(R): o += f"let p{dst}_{r} = load(row{r}, u{dst});\n"
        return o
    def dots(dst):
        ex = "true" if exact else f"w{dst} < {units}u"
        o = f"let e{dst} = {ex};\n"
        for r in range(R): o += f"let b{dst}_{r} = unpack(p{dst}_{r}, u{dst}, e{dst});\n"
        for c in range(C):
            base = f"{c * 3 * units}u" if mode == "smem" else f"(col0 + {c}u) * {3 * units}u"
            o += f"{{ let a = {base} + u{dst}; let lo = {X}[a]; let hi = {X}[a + {units}u]; let h = bitcast<vec4<f32>>({X}[a + {2 * units}u]);\n"
            for r in range(R): o += f"s{c * R + r} = dotb(b{dst}_{r}, lo, hi, h, s{c * R + r});\n"
            o += "}\n"
        return o
    fill = ""
    if mode == "smem":
        fill = f"for (var i = thread; i < {C * 3 * units}u; i += {wg}u) {{ xs[i] = act[col0 * {3 * units}u + i]; }}\nworkgroupBarrier();\n"
    if ahead == "loop":
        t += fill + f"for (var step = 0u; step < {steps}u; step++) {{\n" + loads("step", "") + dots("") + "}\n"
    elif ahead == "next":  # next step's weights on their way; unrolled if few
        if steps <= 6:
            t += loads("0u", "0") + fill
            for s in range(steps):
                if s + 1 < steps: t += loads(f"{s + 1}u", str(s + 1))
                t += dots(str(s))
        else:
            t += f"var un = slice * {L}u + lane;\n"
            for r in range(R): t += f"var q{r} = load(row{r}, min(un, {units - 1}u));\n"
            t += fill + f"for (var step = 0u; step < {steps}u; step++) {{\nlet w = un; let u = min(un, {units - 1}u); un += {L * W}u;\n"
            for r in range(R): t += f"let p_{r} = q{r}; q{r} = load(row{r}, min(un, {units - 1}u));\n"
            t += dots("") + "}\n"
    code, names, base, lowest = butterfly(n, L)
    t += code + f"\nlet base = {base};\n"
    if W == 1:
        t += f"if (lane % {lowest}u == 0u) {{\n"
        for i, v in enumerate(names):
            t += f"if (base + {i}u < {n}u && first + (base + {i}u) % {R}u < {rows}u) {{ y[(col0 + (base + {i}u) / {R}u) * {rows}u + first + (base + {i}u) % {R}u] = {v}; }}\n"
        t += "}\n"
    else:
        t += f"if (lane % {lowest}u == 0u) {{\n"
        for i, v in enumerate(names): t += f"if (base + {i}u < {n}u) {{ part[(thread / {L}u) * {n}u + base + {i}u] = {v}; }}\n"
        t += f"}}\nworkgroupBarrier();\nfor (var i = thread; i < {G * n}u; i += {wg}u) {{ let g = i / {n}u; let k = i % {n}u; var sum = 0.0;\n"
        t += f"for (var s = 0u; s < {W}u; s++) {{ sum += part[(g * {W}u + s) * {n}u + k]; }}\n"
        t += f"let row = group_id.x * {G * R}u + g * {R}u + k % {R}u; if (row < {rows}u) {{ y[(col0 + k / {R}u) * {rows}u + row] = sum; }} }}\n"
    t += "}\n"
    return t, -(-rows // (G * R))

def gen_xreg(rows, units, C, NR, wgs):
    """x in registers: 16-lane segments, a thread a unit; NR rows a row-slot, wgs = slots of rows in a workgroup."""
    S = units // 16
    stride = (units * 16 + units // 8 * 4 + units * 2 + 15) // 16
    wg = 16 * S * wgs
    t = HEAD.replace("UNITS", f"{units}u")
    t += f"var<workgroup> part: array<f32, {wgs * NR * S * C}>;\n"
    t += f"""@compute @workgroup_size({wg})
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {{
let lane = thread % 16u; let seg = thread / 16u % {S}u; let slot = thread / {16 * S}u; let u = seg * 16u + lane;
let col0 = group_id.y * {C}u;
let first = (group_id.x * {wgs}u + slot) * {NR}u;
var q = load(min(first, {rows - 1}u) * {stride}u, u);
var q2 = load(min(first + 1u, {rows - 1}u) * {stride}u, u);
"""
    for c in range(C): t += f"let a{c} = (col0 + {c}u) * {3 * units}u + u; let lo{c} = act[a{c}]; let hi{c} = act[a{c} + {units}u]; let h{c} = bitcast<vec4<f32>>(act[a{c} + {2 * units}u]).xw;\n"
    t += f"for (var i = 0u; i < {NR}u; i++) {{\nlet b = unpack(q, u, true); q = q2; q2 = load(min(first + i + 2u, {rows - 1}u) * {stride}u, u);\n"
    for c in range(C): t += f"let s{c} = dotb(b, lo{c}, hi{c}, vec4(h{c}.x, 0.0, 0.0, h{c}.y), 0.0);\n"
    code, names, base, lowest = butterfly(C, 16)
    t += code + f"\nlet base = {base};\nif (lane % {lowest}u == 0u) {{ part[((slot * {NR}u + i) * {S}u + seg) * {C}u + base] = {names[0]}; }}\n}}\n"
    t += f"""workgroupBarrier();
for (var i = thread; i < {wgs * NR * C}u; i += {wg}u) {{ let r = i / {C}u; let c = i % {C}u; var sum = 0.0;
for (var s = 0u; s < {S}u; s++) {{ sum += part[(r * {S}u + s) * {C}u + c]; }}
let row = group_id.x * {wgs * NR}u + r; if (row < {rows}u) {{ y[(col0 + c) * {rows}u + row] = sum; }} }}
}}
"""
    return t, -(-rows // (wgs * NR)), wg

class Shape:
    def __init__(self, rows, cols, copies, maxc):
        rng = np.random.default_rng(1); self.rows, self.units = rows, cols // 32
        U = self.units
        self.stride = (U * 16 + U // 8 * 4 + U * 2 + 15) // 16
        rec = np.zeros((rows, self.stride * 16), np.uint8)
        codes = rng.integers(0, 256, (rows, U, 16), dtype=np.uint8)
        rec[:, :U * 16] = codes.reshape(rows, -1)
        d = rng.uniform(1e-4, 1e-3, (rows, U // 8, 2)).astype(np.float16)
        rec[:, U * 16:U * 16 + U // 8 * 4] = d.view(np.uint8).reshape(rows, -1)
        sm = rng.integers(0, 64, (rows, U, 2), dtype=np.uint8)
        rec[:, U * 16 + U // 8 * 4:U * 16 + U // 8 * 4 + 2 * U] = sm.reshape(rows, -1)
        self.x = rng.integers(-127, 128, (maxc, U, 32)).astype(np.int8)
        xs = rng.uniform(0.01, 0.02, (maxc, U)).astype(np.float32)
        heads = np.zeros((maxc, U, 4), np.float32); heads[..., 0] = xs; heads[..., 3] = xs * self.x.sum(2)
        xb = np.concatenate([np.ascontiguousarray(self.x[:, :, :16]).view(np.uint32).reshape(maxc, -1), np.ascontiguousarray(self.x[:, :, 16:]).view(np.uint32).reshape(maxc, -1), heads.view(np.uint32).reshape(maxc, -1)], axis=1)
        self.check = min(rows, 200)
        k = self.check
        scale = np.repeat(d[:k, :, 0].astype(np.float32), 8, 1) * sm[:k, :, 0]; minimum = np.repeat(d[:k, :, 1].astype(np.float32), 8, 1) * sm[:k, :, 1]
        q = np.concatenate([codes[:k] & 15, codes[:k] >> 4], 2).astype(np.float32)
        w = (q * scale[..., None] - minimum[..., None]).reshape(k, -1)
        self.expected = (self.x * xs[..., None]).reshape(maxc, -1) @ w.T
        first = dev.create_buffer_with_data(data=rec, usage=BU.STORAGE | BU.COPY_SRC)
        self.weights = [first]
        enc = dev.create_command_encoder()
        for _ in range(copies - 1):
            b = dev.create_buffer(size=rec.nbytes, usage=BU.STORAGE | BU.COPY_DST); enc.copy_buffer_to_buffer(first, 0, b, 0, rec.nbytes); self.weights.append(b)
        dev.queue.submit([enc.finish()])
        self.act = dev.create_buffer_with_data(data=xb, usage=BU.STORAGE)
        self.y = dev.create_buffer(size=4 * rows * maxc, usage=BU.STORAGE | BU.COPY_SRC)
        self.bytes = rec.nbytes

def measure(shape, text, gx, gy, C):
    pl = dev.create_compute_pipeline(layout="auto", compute={"module": dev.create_shader_module(code=text), "entry_point": "main"})
    groups = [dev.create_bind_group(layout=pl.get_bind_group_layout(0), entries=[{"binding": i, "resource": {"buffer": b, "offset": 0, "size": b.size}} for i, b in enumerate((w, shape.act, shape.y))]) for w in shape.weights]
    def run(n):
        enc = dev.create_command_encoder(); ps = enc.begin_compute_pass(); ps.set_pipeline(pl)
        for i in range(n):
            ps.set_bind_group(0, groups[i % len(groups)]); ps.dispatch_workgroups(gx, gy)
        ps.end(); cb = enc.finish(); t = time.perf_counter(); dev.queue.submit([cb]); dev.queue.on_submitted_work_done_sync(); return time.perf_counter() - t
    run(1 if args.quick else len(groups))
    got = np.frombuffer(dev.queue.read_buffer(shape.y), np.float32).reshape(-1, shape.rows)[:C, :shape.check]
    e = shape.expected[:C]; err = float(np.abs(got - e).max() / np.abs(e).max())
    if args.quick: return 0.0, err
    n = 48
    ts = []
    for _ in range(5): ts.append((run(3 * n) - run(n)) / (2 * n))
    return statistics.median(ts), err

def main():
    shapes = [(100, 2560)] if args.quick else [(7680, 2560), (2560, 10240), (2560, 2560)]
    best = {}
    log = []
    for rows, cols in shapes:
        sh = Shape(rows, cols, 2 if args.quick else 24, 32)
        if not args.quick:
            text, gx = gen(rows, sh.units, "l1", 1, 1, 16, 1, 256, "loop")
            end = time.time() + 0.7
            while time.time() < end: measure(sh, text, gx, 1, 1)
        for C in ([1, 3, 8] if args.quick else [8, 4, 16, 2, 1, 32]):
            cands = []
            for R in (1, 2, 4):
                for L, W in (((8, 1), (8, 4)) if args.quick else ((16, 1), (32, 1), (16, 4)) if sh.units == 80 else ((32, 1), (32, 2), (32, 4), (32, 8))):
                    if sh.units < L * W or (sh.units == 320 and L * W < 32): continue
                    for tc in ([C] if C <= 8 else [8, 16]):
                        if tc > C or R * tc < 1: continue
                        if tc == 16 and R != 2: continue
                        if C >= 4 and R == 1: continue
                        if C >= 16 and R * tc < 32: continue
                        for ahead in ("loop", "next"):
                            if C in (1, 16, 32) and ahead == "next": continue
                            cands.append(("l1", R, tc, L, W, 256, ahead))
                        if tc <= 8 and sh.units == 80 and W == 1 and C in (2, 4, 8) and R > 1: cands.append(("smem", R, tc, L, W, 256 if C < 8 else 512, "next"))
            if args.quick: cands = cands[::5] + [c for c in cands if c[0] == "smem"][:1]
            if C in (4, 8, 16) and not args.quick:
                for NR, slots in ((8, 2), (16, 2), (8, 1), (32, 2)) if sh.units == 80 else ((8, 1), (16, 1), (32, 1)):
                    cands.append(("xreg", NR, min(C, 8), 16, slots, 0, ""))
            res = []
            for c in cands:
                mode, R, tc, L, W, wg, ahead = c
                if mode == "xreg":
                    text, gx, wg = gen_xreg(rows, sh.units, tc, R, W)
                else:
                    text, gx = gen(rows, sh.units, *c)
                try: s, err = measure(sh, text, gx, -(-C // tc), C)
                except Exception as ex:
                    print("FAIL", c, str(ex)[:300]); continue
                if err > 1e-4: print("WRONG", c, err)
                res.append((1e6 * s, c)); log.append((rows, cols, C, *c, 1e6 * s, err))
            res.sort()
            print(f"{rows}x{cols} C={C}: " + "; ".join(f"{s:.1f} {m[0]}{m[6]} R{m[1]}C{m[2]}L{m[3]}W{m[4]}" for s, m in res[:4]) + f" ... worst {res[-1][0]:.1f}; " +
                  f"best next={min((s for s, m in res if m[6] == 'next'), default=0):.1f} loop={min((s for s, m in res if m[6] == 'loop'), default=0):.1f} smem={min((s for s, m in res if m[0] == 'smem'), default=0):.1f} xreg={min((s for s, m in res if m[0] == 'xreg'), default=0):.1f}", flush=True)
        sh = None
    if args.out:
        with open(args.out, "w") as f:
            for l in log: f.write(" ".join(map(str, l)) + "\n")
main()
