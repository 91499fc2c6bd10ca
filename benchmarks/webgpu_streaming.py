"""Streaming speed of the WebGPU backend: a model with less and less of the device's memory, beside a bare copy loop.

    python benchmarks/webgpu_streaming.py [--model 2.9b:q4_k_m] [--percent 25 50 75] [--json FILE] [--plot FILE.png]

A budget of P percent is P % of what the resident weights take on the device. Each line: budget, resident layers, megabytes
streamed for a token, milliseconds a token (greedy, batch 1, wall clock), the same of the upload alone and of the kernels
alone (the resident run's) in the same process, and the token's time over the larger of the two; then a chunk of a prompt.
The logits after a short prompt and the tokens after it are compared with those of the resident run, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from rwkvnative import _core
from rwkvnative.bench.random_model import random_model
from rwkvnative.errors import InputError

EMPTY = np.empty(0, np.int32)


def bare_copy_rate(device_name: str, piece: int = 32 << 20, pieces: int = 32) -> float:
    """Bytes per second from host memory that the device reads to two buffers in turn, by Dawn alone; the best of five."""
    import wgpudawn
    from wgpudawn.backends.dawn import extras

    extras.set_instance_extras(enable_toggles=["allow_unsafe_apis"])
    adapter = next(a for a in wgpudawn.gpu.enumerate_adapters_sync() if a.info["device"] == device_name)
    device = extras.request_device_sync(adapter, required_features=["host-mapped-pointer"])
    memory = extras.allocate_host_memory(device, piece * pieces)
    np.frombuffer(memory, np.uint8)[:] = 1
    usage = wgpudawn.BufferUsage
    sources = [extras.create_buffer_from_host_memory(device, memory[i * piece : (i + 1) * piece], usage=usage.COPY_SRC)
               for i in range(pieces)]  # fmt: skip
    targets = [device.create_buffer(size=piece, usage=usage.COPY_DST) for _ in range(2)]
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        encoder = device.create_command_encoder()
        for i, source in enumerate(sources):
            encoder.copy_buffer_to_buffer(source, 0, targets[i % 2], 0, piece)
        device.queue.submit([encoder.finish()])
        device.queue.on_submitted_work_done_sync()
        best = max(best, piece * pieces / (time.perf_counter() - start))
    return best


def median_ms(work, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


def measure(engine: _core.Engine, tokens: int, rows: int | None, warm: float) -> dict:
    """One engine's figures. rows: tokens of a chunk of a prompt."""
    info = engine.info
    rows = rows or info["prefill_rows"]
    prompt = (np.arange(rows, dtype=np.int32) * 7919 + 1) % info["n_vocab"]
    prompt = prompt.astype(np.int32)
    state = engine.new_state()
    logits = engine.forward(prompt[:48], None, state, "last")
    story = engine.greedy(5, state, 8, EMPTY)
    end = time.perf_counter() + warm
    while time.perf_counter() < end:
        engine.greedy(5, state, 4, EMPTY)
    token_ms = median_ms(lambda: engine.greedy(5, state, tokens, EMPTY), 3) / tokens
    chunk_ms = median_ms(lambda: engine.forward(prompt, None, state, "last"), 5)
    result = {"resident_layers": info["resident_layers"], "layers": info["layers"], "streamed_mb": info["streamed_bytes"] / 1e6,
              "token_ms": token_ms, "chunk_rows": rows, "chunk_ms": chunk_ms, "logits": logits, "story": story,
              "budget_mb": info["max_device_memory"] / 1e6, "upload_ms": 0.0}  # fmt: skip
    if info["streamed_bytes"]:
        step = engine.profile(1, 1, 3, 0.1)
        result["upload_ms"] = sum(u["microseconds"] for u in step["uploads"]) / 1e3
    result["peak_mb"] = engine.info["device_bytes_peak"] / 1e6
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="2.9b:q4_k_m", help="a random model, as `rwkvnative bench --random` takes it")
    parser.add_argument("--percent", type=float, nargs="+", default=[25, 40, 55, 70, 85, 100, 110, 120])
    parser.add_argument("--device", default="webgpu")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--rows", type=int, help="tokens of a chunk of a prompt; the device's usual number if left out")
    parser.add_argument("--warm", type=float, default=0.4)
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--plot", help="draw them into this file, with matplotlib")
    args = parser.parse_args()

    model = random_model(args.model)

    def open_engine(budget: int = 0) -> _core.Engine:
        return _core.Engine("rwkv7", model.config, model.tensors, model.data, args.device, 0, "int8", None, max_device_memory=budget)

    engine = open_engine()
    name, weights = engine.info["device_name"], engine.info["device_bytes"]
    resident = measure(engine, args.tokens, args.rows, args.warm)
    del engine
    bare = bare_copy_rate(name)
    print(f"{name}, {model.name}: {weights / 1e6:.0f} MB on the device; a bare copy loop: {bare / 1e9:.1f} GB/s")
    print(f"resident: {resident['token_ms']:.2f} ms a token, {resident['chunk_ms']:.1f} ms for {resident['chunk_rows']} tokens, "
          f"peak {resident['peak_mb']:.0f} MB")
    records = []
    for percent in args.percent:
        try:
            engine = open_engine(round(weights * percent / 100))
        except InputError as error:
            print(f"{percent:g} %: {error}")
            continue
        start = time.perf_counter()
        got = measure(engine, args.tokens, args.rows, args.warm)
        logits, story = got.pop("logits"), got.pop("story")
        same = np.array_equal(logits, resident["logits"]) and story == resident["story"]
        got |= {"percent": percent, "same": same, "compute_ms": resident["token_ms"]}
        got["upload_gb_s"] = got["streamed_mb"] / got["upload_ms"] if got["upload_ms"] else 0.0
        got["over"] = got["token_ms"] / max(got["upload_ms"], got["compute_ms"])
        print(f"{percent:5.1f} %  {got['resident_layers']:2d}/{got['layers']} layers, {got['streamed_mb']:7.1f} MB a token | "
              f"{got['token_ms']:6.2f} ms (upload {got['upload_ms']:6.2f}, {got['upload_gb_s']:4.1f} GB/s; kernels "
              f"{got['compute_ms']:5.2f}): x {got['over']:.2f} | {got['chunk_rows']} tokens {got['chunk_ms']:6.1f} ms | "
              f"peak {got['peak_mb']:.0f} of {got['budget_mb']:.0f} MB, {'same' if same else 'OTHER'} results, {time.perf_counter() - start:.1f} s",
              flush=True)  # fmt: skip
        records.append(got)
        del engine
    records.sort(key=lambda record: record["percent"])
    for record in (resident,):
        record.pop("logits"), record.pop("story")
    figures = {"device": name, "model": model.name, "bare_copy_gb_s": bare / 1e9, "resident": resident, "budgets": records}
    if args.json:
        with open(args.json, "w") as file:
            json.dump(figures, file, indent=1)
    if args.plot:
        plot(figures, args.plot)


def plot(figures: dict, path: str) -> None:
    """Milliseconds a token over megabytes streamed for it, with the line that the bare copy loop's rate gives."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    records = figures["budgets"]
    streamed = [r["streamed_mb"] for r in records]
    fig, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    axes.plot(streamed, [r["token_ms"] for r in records], "o-", color="#1f5fa8", label="a token")
    axes.plot(streamed, [r["upload_ms"] for r in records], "s--", color="#7a7a7a", markersize=4, label="its upload alone")
    line = np.array([0, max(streamed)])
    axes.plot(line, figures["resident"]["token_ms"] + line / figures["bare_copy_gb_s"], ":", color="#c0392b",
              label=f"resident + a bare copy loop, {figures['bare_copy_gb_s']:.1f} GB/s")  # fmt: skip
    for r in records:
        axes.annotate(f"{r['percent']:g} %", (r["streamed_mb"], r["token_ms"]), textcoords="offset points", xytext=(-6, 7), ha="right", fontsize=8)
    axes.set(xlabel="MB streamed for a token", ylabel="ms", ylim=(0, None), title=f"{figures['model']}, {figures['device']}, budgets in % of the weights")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    fig.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
