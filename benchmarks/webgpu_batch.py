"""Prefill and batched decode of the WebGPU backend on a synthetic model of a published size, with the time of every kernel.

    python benchmarks/webgpu_batch.py [--size 2.9b] [--types Q4_K_M] [--prefill 512 2048] [--decode 1 8 32 64 128 256] [--profile 2]

--prefill: one sequence of so many tokens in one submit; --decode: so many sequences of one token each, greedy, the tokens staying
on the device. A line of the output: tokens per second of all sequences together (wall clock, after --warm seconds or more, until
the device's clocks are steady), milliseconds and host microseconds of a submit; with --profile the time of each kind of kernel
(timestamps around each dispatch), and of the matrices together: their milliseconds and Tflop/s. --peak first measures what the
device's subgroup matrices do in registers, without memory: the ceiling of those Tflop/s.
"""

from __future__ import annotations

import argparse

import numpy as np
from webgpu_decode import MIXES, SIZES, build

from rwkvnative import _core

MATRICES = ("linear", "lora", "head", "matmat", "reduce", "tiles")  # first words of the labels of what multiplies

PEAK = """enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
@group(0) @binding(0) var<storage, read> x: array<f16>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(128) fn main(@builtin(workgroup_id) group: vec3<u32>) {
  let a0 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&x, 0u, 16u);
  let a1 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&x, 256u, 16u);
  let b0 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&x, 512u, 16u);
  let b1 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&x, 768u, 16u);
  $DECLARE
  for (var i = 0u; i < 2048u; i++) {
    $MULTIPLY
  }
  $STORE
}"""


def peak_tflops(n_sums: int = 8, workgroups: int = 1056) -> float:
    """Tflop/s of f16 subgroup matrices 16 x 16 x 16 with f32 sums, operands in registers; 0 where the device has none."""
    import wgpudawn
    from wgpudawn.backends.dawn import extras

    extras.set_instance_extras(enable_toggles=["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia", "skip_validation"],
                               disable_toggles=["timestamp_quantization"])
    adapter = wgpudawn.gpu.request_adapter_sync(power_preference="high-performance")
    features = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix", "timestamp-query"]
    if not set(features) <= set(adapter.features):
        return 0.0
    device = adapter.request_device_sync(required_features=features)
    sums = range(n_sums)
    source = PEAK.replace("$DECLARE", "\n  ".join(f"var c{i}: subgroup_matrix_result<f32, 16, 16>;" for i in sums))
    source = source.replace("$MULTIPLY", "\n    ".join(
        f"c{i} = subgroupMatrixMultiplyAccumulate(a{i % 2}, b{i // 2 % 2}, c{i});" for i in sums))
    source = source.replace("$STORE", "\n  ".join(
        f"subgroupMatrixStore<row_major>(&out, (group.x * {n_sums}u + {i}u) * 256u, c{i}, 16u);" for i in sums))
    pipeline = device.create_compute_pipeline(
        layout="auto", compute={"module": device.create_shader_module(code=source), "entry_point": "main"})
    usage = wgpudawn.BufferUsage
    x = device.create_buffer_with_data(data=np.zeros(1024, np.float16).tobytes(), usage=usage.STORAGE)
    out = device.create_buffer(size=workgroups * n_sums * 1024, usage=usage.STORAGE)
    group = device.create_bind_group(layout=pipeline.get_bind_group_layout(0), entries=[
        {"binding": i, "resource": {"buffer": buffer, "offset": 0, "size": buffer.size}} for i, buffer in enumerate((x, out))])
    times = device.create_query_set(type="timestamp", count=2)
    resolved = device.create_buffer(size=16, usage=usage.QUERY_RESOLVE | usage.COPY_SRC)
    best = float("inf")
    for _ in range(60):  # the first ones warm the device up
        encoder = device.create_command_encoder()
        compute = encoder.begin_compute_pass(timestamp_writes={
            "query_set": times, "beginning_of_pass_write_index": 0, "end_of_pass_write_index": 1})
        compute.set_pipeline(pipeline)
        compute.set_bind_group(0, group)
        compute.dispatch_workgroups(workgroups)
        compute.end()
        encoder.resolve_query_set(times, 0, 2, resolved, 0)
        device.queue.submit([encoder.finish()])
        start, end = np.frombuffer(device.queue.read_buffer(resolved), np.uint64)
        best = min(best, int(end - start) * 1e-9)
    return workgroups * 4 * 2048 * n_sums * 2 * 16**3 / best / 1e12


def matrix_values(tensors: list, head: bool) -> int:
    """Weights that a token is multiplied with."""
    return sum(int(np.prod(ne)) for name, _, ne, _, _ in tensors
               if len(ne) == 2 and name != "token_embd.weight" and (head or name != "output.weight"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="2.9b", choices=SIZES)
    parser.add_argument("--types", default="Q4_K_M", choices=MIXES)
    parser.add_argument("--layers", type=int, help="instead of the size's own number: for the time of single kernels")
    parser.add_argument("--prefill", nargs="*", type=int, default=[512, 2048])
    parser.add_argument("--decode", nargs="*", type=int, default=[1, 8, 32, 64, 128, 256])
    parser.add_argument("--candidates", type=int, default=0, help="with --decode: read so many back instead of the best token")
    parser.add_argument("--tuning", nargs="+", default=[""], help="sets of tuning constants (csrc/webgpu/options.h)")
    parser.add_argument("--numerics", default="int8", choices=["int8", "f32"])
    parser.add_argument("--device", default="webgpu")
    parser.add_argument("--warm", type=float, default=0.5)
    parser.add_argument("--submits", type=int, default=16)
    parser.add_argument("--profile", type=int, default=0, help="timed repeats of every kernel")
    parser.add_argument("--compiles", type=int, default=0, help="print so many of the kernels that took longest to compile")
    parser.add_argument("--peak", action="store_true", help="first the rate of subgroup matrices in registers")
    parser.add_argument("--only", default="", help="print only kernels with one of these comma-separated words in the label")
    args = parser.parse_args()
    if args.layers:
        SIZES[args.size] = (args.layers, *SIZES[args.size][1:])
    if args.peak:
        print(f"subgroup matrices f16 -> f32 in registers: {peak_tflops():.0f} Tflop/s", flush=True)
    config, tensors, data = build(args.size, args.types)
    benchmark = _core.WebgpuBenchmark("rwkv7", config, tensors, data, args.device, args.numerics)
    for tuning in args.tuning:
        for sequences, rows in [(1, n) for n in args.prefill] + [(n, 1) for n in args.decode]:
            got = benchmark.batch(tuning, sequences, rows, args.candidates if rows == 1 else 0, args.warm, args.submits, args.profile)
            rate = got["tokens_per_second"]
            name = f"prefill {rows}" if rows > 1 else f"decode {sequences}"
            print(f"{args.size} {args.types} {args.numerics} [{tuning}] {name}: {rate:.0f} tok/s, {1e3 * sequences * rows / rate:.2f} "
                  f"ms, submit {got['submit_us']:.0f} us, compile {got['compile_seconds']:.2f} s, {got['kernels']} kernels", flush=True)
            for label, seconds in sorted(got["kernel_seconds"], key=lambda item: -item[1])[:args.compiles]:
                print(f"    {1e3 * seconds:9.1f} ms to compile  {label}", flush=True)
            if args.profile:
                multiply = 1e-6 * sum(total for label, (_, total) in got["ops"].items() if label.startswith(MATRICES))
                flops = 2 * sequences * rows * matrix_values(tensors, rows == 1)
                print(f"    matrices {1e3 * multiply:.2f} ms, {flops / multiply / 1e12:.1f} Tflop/s", flush=True)
            for label, (count, total) in sorted(got["ops"].items(), key=lambda item: -item[1][1]):
                if not args.only or any(word in label for word in args.only.split(",")):
                    print(f"    {total:9.1f} us  {count:3d} x {total / count:8.2f}  {label}", flush=True)


if __name__ == "__main__":
    main()
