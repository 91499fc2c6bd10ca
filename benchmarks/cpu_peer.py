"""Decode and prefill on the CPU, side by side with llama.cpp's llama-bench on the same file and threads.

    python benchmarks/cpu_peer.py --llama-bench PATH [--sizes 0.1b 1.5b] [--threads 2] [--rounds 4]

Writes synthetic Q4_K_M models of the published shapes (random valid blocks) under --models, then runs ours, theirs, ours,
theirs, ... Each run is a fresh process that warms up first; the table gives the medians and their ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

SIZES = {
    "0.1b": {"n_layer": 12, "n_embd": 768, "n_ff": 3072, "ranks": (64, 64, 32, 128)},
    "0.4b": {"n_layer": 24, "n_embd": 1024, "n_ff": 4096, "ranks": (64, 64, 32, 128)},
    "1.5b": {"n_layer": 24, "n_embd": 2048, "n_ff": 8192, "ranks": (96, 96, 64, 256)},
    "2.9b": {"n_layer": 32, "n_embd": 2560, "n_ff": 10240, "ranks": (96, 96, 64, 320)},
}
DECODE_TOKENS = {"0.1b": 128, "0.4b": 64, "1.5b": 32, "2.9b": 16}
PREFILL_TOKENS = 512


def write_model(size: str, folder: Path) -> Path:
    """The Q4_K_M file of that size: llama-quantize's type mix, LoRAs F16."""
    path = folder / f"rwkv7-{size}-q4_k_m.gguf"
    if not path.exists():
        from synthetic import make_model

        make_model(path, n_vocab=65536, type="Q4_K", embed_type="Q4_K", head_type="Q6_K", lora_type="F16", **SIZES[size])
    return path


def measure_ours(path: Path, n_threads: int, n_decode: int) -> dict[str, float]:
    """Runs in a process of its own (--measure): tokens per second, seconds to load, megabytes beyond the file."""
    import resource

    import numpy as np

    from rwkvnative import Model

    begin = time.perf_counter()
    model = Model(path, device="cpu", n_threads=n_threads)
    load = time.perf_counter() - begin
    engine, none = model._engine, np.zeros(0, np.int32)
    state = engine.new_state()
    prompt = np.arange(1, PREFILL_TOKENS + 1, dtype=np.int32)
    engine.forward(prompt[:128], None, state, "last")
    engine.greedy(1, state, 4, none, None)
    begin = time.perf_counter()
    engine.greedy(1, state, n_decode, none, None)
    decode = n_decode / (time.perf_counter() - begin)
    begin = time.perf_counter()
    engine.forward(prompt, None, state, "last")
    prefill = PREFILL_TOKENS / (time.perf_counter() - begin)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"decode": decode, "prefill": prefill, "load_s": load, "beyond_file_mb": (resident - path.stat().st_size) / 1e6}


def run_ours(path: Path, n_threads: int, n_decode: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(path), "--threads", str(n_threads), "--decode", str(n_decode)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_theirs(llama_bench: str, path: Path, n_threads: int, n_decode: int) -> dict[str, float]:
    command = [llama_bench, "-m", str(path), "-t", str(n_threads), "-p", str(PREFILL_TOKENS), "-n", str(n_decode), "-r", "1",
               "-o", "json"]
    tests = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"prefill" if test["n_prompt"] else "decode": test["avg_ts"] for test in tests}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-bench", help="path of llama.cpp's llama-bench")
    parser.add_argument("--sizes", nargs="+", default=["0.1b", "1.5b"], choices=SIZES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "rwkvnative-bench")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--decode", type=int, default=32, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure_ours(args.measure, args.threads, args.decode)))
        return
    if not args.llama_bench:
        parser.error("--llama-bench is needed")
    args.models.mkdir(parents=True, exist_ok=True)
    print(f"{'model':6} {'test':8} {'ours':>9} {'llama.cpp':>9} {'ratio':>6}   tok/s, medians of {args.rounds} (range of ours, theirs)")
    for size in args.sizes:
        path, n_decode = write_model(size, args.models), DECODE_TOKENS[size]
        ours, theirs = [], []
        for _ in range(args.rounds):
            ours.append(run_ours(path, args.threads, n_decode))
            theirs.append(run_theirs(args.llama_bench, path, args.threads, n_decode))
        for test in ("decode", "prefill"):
            a, b = [run[test] for run in ours], [run[test] for run in theirs]
            ratio = statistics.median(a) / statistics.median(b)
            print(f"{size:6} {test:8} {statistics.median(a):9.1f} {statistics.median(b):9.1f} {ratio:6.2f}   "
                  f"({min(a):.1f}..{max(a):.1f}, {min(b):.1f}..{max(b):.1f})")
        load = statistics.median(run["load_s"] for run in ours)
        beyond = max(run["beyond_file_mb"] for run in ours)
        print(f"{size:6} load {load:.3f} s, peak resident {beyond:.0f} MB beyond the file's {path.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
