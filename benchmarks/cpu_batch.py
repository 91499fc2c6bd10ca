"""Batched decoding on the CPU, side by side with llama.cpp's llama-batched-bench on the same files and threads.

    python benchmarks/cpu_batch.py --llama-batched-bench PATH FILE.gguf ... [--batches 1 2 4 8 16 32] [--threads 2] [--rounds 3]
                                    [--device cpu:avx2]

Runs ours, theirs, ours, theirs, ...: each a fresh process that takes every batch size in turn. Ours decodes greedily
(Engine.greedy_batch), theirs decodes random tokens and reads the logits of all. The table gives tokens per second of all
sequences together, medians, and their ratio. `rwkvnative bench -b 8 --device cpu` measures one size of ours by itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np


def measure(path: Path, device: str, n_threads: int, batches: list[int], seconds: float) -> dict[str, float]:
    """In a process of its own: batch size -> tokens per second, over some `seconds` after two steps to warm up."""
    from rwkvnative import Model

    engine = Model(path, device=device, n_threads=n_threads)._engine
    states = [engine.new_state() for _ in range(max(batches))]
    rates = {}
    for n in batches:
        tokens = np.arange(1, n + 1, dtype=np.int32)
        engine.greedy_batch(tokens, states[:n], 2)
        steps, begin = 0, time.perf_counter()
        while (spent := time.perf_counter() - begin) < seconds:
            engine.greedy_batch(tokens, states[:n], 2)
            steps += 2
        rates[str(n)] = n * steps / spent
    return rates


def run_ours(path: Path, device: str, n_threads: int, batches: list[int], seconds: float) -> dict[str, float]:
    command = [sys.executable, __file__, str(path), "--measure", "--device", device, "--threads", str(n_threads), "--seconds",
               str(seconds), "--batches", *map(str, batches)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_theirs(program: str, path: Path, n_threads: int, batches: list[int], steps: int) -> dict[str, float]:
    command = [program, "-m", str(path), "-t", str(n_threads), "-c", str(max(batches) * 256), "-npp", "4", "-ntg", str(steps),
               "-npl", ",".join(map(str, batches)), "--output-format", "jsonl"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {str(row["pl"]): row["speed_tg"] for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--llama-batched-bench", help="path of the program")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--device", default="cpu", help="ours: cpu, or one of its kernel sets")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each of our batch sizes")
    parser.add_argument("--steps", type=int, default=4, help="tokens of each of their sequences")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.files[0], args.device, args.threads, args.batches, args.seconds)))
        return
    if not args.llama_batched_bench:
        parser.error("--llama-batched-bench is needed")
    print(f"{'batch':>5} {'ours':>9} {'llama.cpp':>9} {'ratio':>6}   tok/s of all, medians of {args.rounds} (range of ours, theirs)")
    for path in args.files:
        ours, theirs = [], []
        for _ in range(args.rounds):
            ours.append(run_ours(path, args.device, args.threads, args.batches, args.seconds))
            theirs.append(run_theirs(args.llama_batched_bench, path, args.threads, args.batches, args.steps))
        print(path.name)
        for n in map(str, args.batches):
            a, b = [run[n] for run in ours], [run[n] for run in theirs]
            ratio = statistics.median(a) / statistics.median(b)
            print(f"{n:>5} {statistics.median(a):9.1f} {statistics.median(b):9.1f} {ratio:6.2f}   "
                  f"({min(a):.1f}..{max(a):.1f}, {min(b):.1f}..{max(b):.1f})")


if __name__ == "__main__":
    main()
