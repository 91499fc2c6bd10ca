"""Decode speed of the WebGPU backend on synthetic models of the published sizes, with the time of every kernel.

    python benchmarks/webgpu_decode.py [--sizes 0.1b 1.5b 2.9b] [--types Q4_K_M] [--tuning "workgroup=128" ...] [--profile 5]

A model's weights are random valid blocks made in memory. A line of the output: size, types, tuning constants, tokens per
second (wall clock, greedy, batch 1, after --warm seconds or more, until the device's clocks are steady), microseconds of a submit
on the host, and with --profile the microseconds that each kind of kernel takes in one token (timestamps around each dispatch, so
gaps are not in it).
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from rwkvnative import _core
from rwkvnative.bench import random_model

# layers, width, feed-forward width, LoRA ranks (decay, iclr, value, gate)
SIZES = {name: (size.n_layer, size.n_embd, size.n_ff, size.ranks) for name, size in random_model.SIZES.items()}
MIXES = ("Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16")
VOCABULARY = 65536


def build(size: str, mix: str) -> tuple[dict[str, float], list, np.ndarray]:
    """(config, tensors, data) as rwkvnative._core.Engine takes them, of the size that SIZES says now."""
    layers, width, _, ranks = SIZES[size]
    random_model.SIZES[size] = random_model.Size(layers, width, ranks, n_vocab=VOCABULARY)
    model = random_model.random_model(f"{size}:{mix}")
    return model.config, model.tensors, model.data


def bytes_per_token(tensors: list) -> int:
    return sum(n_bytes for name, _, _, _, n_bytes in tensors if name != "token_embd.weight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["0.1b", "1.5b", "2.9b"], choices=SIZES)
    parser.add_argument("--types", nargs="+", default=["Q4_K_M"], choices=MIXES)
    parser.add_argument("--tuning", nargs="+", default=[""], help="sets of tuning constants (csrc/webgpu/options.h)")
    parser.add_argument("--numerics", default="int8", choices=["int8", "f32"])
    parser.add_argument("--device", default="webgpu")
    parser.add_argument("--warm", type=float, default=0.5)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--profile", type=int, default=0, help="timed repeats of every kernel")
    parser.add_argument("--engine", action="store_true", help="also Engine.greedy: what generate() runs on")
    parser.add_argument("--json", help="write all numbers to this file too")
    args = parser.parse_args()
    records = []
    for size in args.sizes:
        for mix in args.types:
            config, tensors, data = build(size, mix)
            benchmark = _core.WebgpuBenchmark("rwkv7", config, tensors, data, args.device, args.numerics)
            for tuning in args.tuning:
                got = benchmark.decode(tuning, args.warm, args.tokens, args.profile)
                rate = got["tokens_per_second"]
                print(f"{size} {mix} {args.numerics} [{tuning}] {rate:.0f} tok/s, {1e6 / rate:.0f} us/token, "
                      f"{bytes_per_token(tensors) * rate / 1e12:.2f} TB/s, submit {got['submit_us']:.0f} us, "
                      f"compile {got['compile_seconds']:.2f} s, load {got['load_seconds']:.2f} s", flush=True)
                for label, (count, total) in sorted(got["ops"].items(), key=lambda item: -item[1][1]):
                    print(f"    {total:8.1f} us  {count:3d} x {total / count:6.2f}  {label}", flush=True)
                records.append({"size": size, "types": mix, "tuning": tuning, **got})
            if args.engine:
                del benchmark
                engine = _core.Engine("rwkv7", config, tensors, data, args.device, 0, args.numerics, None)
                state = engine.new_state()
                stop = np.empty(0, np.int32)
                engine.greedy(1, state, args.tokens, stop)
                start = time.perf_counter()
                engine.greedy(1, state, args.tokens, stop)
                print(f"{size} {mix} {args.numerics} Engine.greedy {args.tokens / (time.perf_counter() - start):.0f} tok/s", flush=True)
                del engine, state
    if args.json:
        with open(args.json, "w") as file:
            json.dump(records, file, indent=1)


if __name__ == "__main__":
    main()
