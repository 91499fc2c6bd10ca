"""Short prompts on the WebGPU backend, alone and joining others that decode, with Programs of few rows and without.

    python benchmarks/webgpu_prompts.py [--size 2.9b] [--types Q4_K_M] [--tuning "" short_rows=1 short_rows=64 short_rows=336]
        [--lengths 3 16 17 64 65 200 512] [--join 0 8 32] [--repeats 20]

Each set of tuning constants has an engine of its own. A line of the output: how many sequences bring a token to the call and how
long the prompt is that joins them, milliseconds of the first such call (in which its Program is compiled) and of a later one
(median), the Programs so far and their memory. The first sets compile for those after them, since a driver keeps kernels on disk:
with __GL_SHADER_DISK_CACHE=0 NVIDIA's does not.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from webgpu_decode import MIXES, SIZES, build

from rwkvnative import _core
from rwkvnative.bench.measure import warm_up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="2.9b", choices=SIZES)
    parser.add_argument("--types", default="Q4_K_M", choices=MIXES)
    parser.add_argument("--layers", type=int, help="instead of the size's own number")
    parser.add_argument("--tuning", nargs="+", default=["", "short_rows=1"], help="sets of tuning constants (csrc/webgpu/options.h)")
    parser.add_argument("--lengths", nargs="+", type=int, default=[3, 16, 17, 64, 65, 200, 512])
    parser.add_argument("--join", nargs="+", type=int, default=[0, 8, 32], help="sequences that bring a token each to the same call")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--warm", type=float, default=0.5, help="seconds before each timing")
    parser.add_argument("--numerics", default="int8", choices=["int8", "f32"])
    parser.add_argument("--device", default="webgpu")
    args = parser.parse_args()
    if args.layers:
        SIZES[args.size] = (args.layers, *SIZES[args.size][1:])
    config, tensors, data = build(args.size, args.types)
    for tuning in args.tuning:
        engine = _core.Engine("rwkv7", config, tensors, data, args.device, 0, args.numerics, None)
        engine.set_tuning(tuning)
        for others in args.join:
            states = [engine.new_state() for _ in range(others + 1)]
            for length in args.lengths:
                tokens = [*(np.int32([1 + i]) for i in range(others)), (1 + np.arange(length) * 7919 % 50000).astype(np.int32)]

                def call(states: list[_core.State] = states, tokens: list[np.ndarray] = tokens) -> None:
                    engine.forward_batch(tokens, states, states)  # noqa: B023

                seconds = []
                for _ in range(args.repeats + 1):
                    start = time.perf_counter()
                    call()
                    seconds.append(time.perf_counter() - start)
                    if len(seconds) == 1:
                        warm_up(call, args.warm, max(args.warm, 2.0))
                info = engine.info
                print(f"{args.size} {args.types} [{tuning}] {others} + {length}: first {1e3 * seconds[0]:.0f} ms, then "
                      f"{1e3 * statistics.median(seconds[1:]):.2f} ms, {info['programs']} Programs, {info['scratch_bytes'] >> 20} MiB",
                      flush=True)
        del engine, states


if __name__ == "__main__":
    main()
