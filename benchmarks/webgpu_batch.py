"""Prefill and batched decode of the WebGPU backend on a synthetic model of a published size, with the time of every kernel.

    python benchmarks/webgpu_batch.py [--size 2.9b] [--types Q4_K_M] [--prefill 512 2048] [--decode 1 8 32 64 128 256] [--profile 2]

--prefill: one sequence of so many tokens in one submit; --decode: so many sequences of one token each, greedy, the tokens staying
on the device. A line of the output: tokens per second of all sequences together (wall clock, after --warm seconds), milliseconds
and host microseconds of a submit; with --profile the time of each kind of kernel (timestamps around each dispatch).
"""

from __future__ import annotations

import argparse

from webgpu_decode import MIXES, SIZES, build

from rwkvnative import _core


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="2.9b", choices=SIZES)
    parser.add_argument("--types", default="Q4_K_M", choices=MIXES)
    parser.add_argument("--layers", type=int, help="instead of the size's own number: for the time of single kernels")
    parser.add_argument("--prefill", nargs="*", type=int, default=[512, 2048])
    parser.add_argument("--decode", nargs="*", type=int, default=[1, 8, 32, 64, 128, 256])
    parser.add_argument("--tuning", nargs="+", default=[""], help="sets of tuning constants (csrc/webgpu/options.h)")
    parser.add_argument("--numerics", default="int8", choices=["int8", "f32"])
    parser.add_argument("--device", default="webgpu")
    parser.add_argument("--warm", type=float, default=0.5)
    parser.add_argument("--submits", type=int, default=16)
    parser.add_argument("--profile", type=int, default=0, help="timed repeats of every kernel")
    parser.add_argument("--only", default="", help="print only kernels with one of these comma-separated words in the label")
    args = parser.parse_args()
    if args.layers:
        SIZES[args.size] = (args.layers, *SIZES[args.size][1:])
    config, tensors, data = build(args.size, args.types)
    benchmark = _core.WebgpuBenchmark("rwkv7", config, tensors, data, args.device, args.numerics)
    for tuning in args.tuning:
        for sequences, rows in [(1, n) for n in args.prefill] + [(n, 1) for n in args.decode]:
            got = benchmark.batch(tuning, sequences, rows, args.warm, args.submits, args.profile)
            rate = got["tokens_per_second"]
            name = f"prefill {rows}" if rows > 1 else f"decode {sequences}"
            print(f"{args.size} {args.types} {args.numerics} [{tuning}] {name}: {rate:.0f} tok/s, {1e3 * sequences * rows / rate:.2f} "
                  f"ms, submit {got['submit_us']:.0f} us, compile {got['compile_seconds']:.2f} s", flush=True)
            for label, (count, total) in sorted(got["ops"].items(), key=lambda item: -item[1][1]):
                if not args.only or any(word in label for word in args.only.split(",")):
                    print(f"    {total:9.1f} us  {count:3d} x {total / count:8.2f}  {label}", flush=True)


if __name__ == "__main__":
    main()
