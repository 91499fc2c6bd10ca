"""Streaming speed of the WebGPU backend: a model with less and less of the device's memory, beside a bare copy loop.

    python benchmarks/webgpu_streaming.py [--model 2.9b:q4_k_m] [--percent 25 50 75] [--copies 25] [--staging 25] [--json FILE]
        [--plot FILE.png]

A budget of P percent is P % of what the resident weights take on the device. Each line: budget, resident layers, megabytes
streamed for a token, milliseconds a token (greedy, batch 1, wall clock), the same of the upload alone (all of a token's units by
copy commands in one submission, until the device is done; the median of several) and of the kernels alone (the resident run's) in
the same process, and the token's time over the larger of the two; then the same of a chunk of a prompt. The logits after a short prompt and the tokens after it are compared with those of the resident run, bit for bit.
--copies: budgets to repeat with copy commands between the kernels in place of copies in the kernels; --staging: with the ring of
mapped buffers that serves devices which cannot read host memory.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from rwkvnative import _core
from rwkvnative.bench.random_model import random_model
from rwkvnative.errors import InputError

EMPTY = np.empty(0, np.int32)


def open_device(name: str):  # noqa: ANN201
    """Dawn's device of that name, without the package."""
    import wgpudawn
    from wgpudawn.backends.dawn import extras

    extras.set_instance_extras(enable_toggles=["allow_unsafe_apis"])
    adapter = next(a for a in wgpudawn.gpu.enumerate_adapters_sync() if a.info["device"] == name)
    return extras.request_device_sync(adapter, required_features=["host-mapped-pointer"])


def bare_ring_rate(device, threads: int, piece: int = 16 << 20, pieces: int = 48) -> float:  # noqa: ANN001
    """Bytes per second through three mapped buffers in turn, each filled by so many threads, by Dawn alone; the best of three."""
    import wgpudawn

    usage, write = wgpudawn.BufferUsage, wgpudawn.MapMode.WRITE
    memory = np.ones(piece * pieces, np.uint8)
    ring = [device.create_buffer(size=piece, usage=usage.MAP_WRITE | usage.COPY_SRC, mapped_at_creation=True) for _ in range(3)]
    targets = [device.create_buffer(size=piece, usage=usage.COPY_DST) for _ in range(2)]
    part = piece // threads
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        mapped = [None] * 3
        for _ in range(3):
            start = time.perf_counter()
            for i in range(pieces):
                buffer = ring[i % 3]
                if mapped[i % 3] is not None:
                    mapped[i % 3].sync_wait()
                list(pool.map(lambda t, b=buffer, i=i: b.write_mapped(memory[i * piece + t * part : i * piece + (t + 1) * part], t * part), range(threads)))
                buffer.unmap()
                encoder = device.create_command_encoder()
                encoder.copy_buffer_to_buffer(buffer, 0, targets[i % 2], 0, piece)
                device.queue.submit([encoder.finish()])
                mapped[i % 3] = buffer.map_async(write)
            device.queue.on_submitted_work_done_sync()
            best = max(best, piece * pieces / (time.perf_counter() - start))
    return best


def bare_copy_rate(device, piece: int = 32 << 20, pieces: int = 32) -> float:  # noqa: ANN001
    """Bytes per second from host memory that the device reads to two buffers in turn, by Dawn alone; the best of five."""
    import wgpudawn
    from wgpudawn.backends.dawn import extras

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


def measure_chunk(engine: _core.Engine, rows: int) -> float:
    """Milliseconds of a prompt of so many tokens."""
    n_vocab = engine.info["n_vocab"]
    prompt = ((np.arange(rows, dtype=np.int32) * 7919 + 1) % n_vocab).astype(np.int32)
    state = engine.new_state()
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end:
        engine.forward(prompt, None, state, "last")
    return median_ms(lambda: engine.forward(prompt, None, state, "last"), 5)


def measure(engine: _core.Engine, tokens: int, rows: int | None, warm: float) -> dict:
    """One engine's figures. rows: tokens of a chunk of a prompt; none are timed if 0."""
    info = engine.info
    rows = info["prefill_rows"] if rows is None else rows
    prompt = ((np.arange(48, dtype=np.int32) * 7919 + 1) % info["n_vocab"]).astype(np.int32)
    state = engine.new_state()
    logits = engine.forward(prompt, None, state, "last")
    story = engine.greedy(5, state, 8, EMPTY)
    end = time.perf_counter() + warm
    while time.perf_counter() < end:
        engine.greedy(5, state, 4, EMPTY)
    token_ms = median_ms(lambda: engine.greedy(5, state, tokens, EMPTY), 3) / tokens
    chunk_ms = measure_chunk(engine, rows) if rows else 0.0
    result = {"resident_layers": info["resident_layers"], "layers": info["layers"], "streamed_mb": info["streamed_bytes"] / 1e6,
              "token_ms": token_ms, "chunk_rows": rows, "chunk_ms": chunk_ms, "logits": logits, "story": story,
              "budget_mb": info["max_device_memory"] / 1e6, "upload_ms": 0.0}  # fmt: skip
    if info["streamed_bytes"]:
        result["upload_ms"] = engine.profile(1, 1, 5, 0.1)["upload_microseconds"] / 1e3
    result["peak_mb"] = engine.info["device_bytes_peak"] / 1e6
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="2.9b:q4_k_m", help="a random model, as `rwkvnative bench --random` takes it")
    parser.add_argument("--percent", type=float, nargs="+", default=[25, 40, 55, 70, 85, 100, 105, 115])
    parser.add_argument("--copies", type=float, nargs="+", default=[])
    parser.add_argument("--staging", type=float, nargs="+", default=[])
    parser.add_argument("--device", default="webgpu")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--rows", type=int, help="tokens of a chunk of a prompt; the engine's own number if left out, no chunk at all if 0")
    parser.add_argument("--warm", type=float, default=0.4)
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--plot", help="draw them into this file, with matplotlib")
    args = parser.parse_args()

    model = random_model(args.model)
    disable = "RWKVNATIVE_WEBGPU_DISABLE"
    usually = os.environ.get(disable, "")

    def open_engine(budget: int = 0, without: str = "") -> _core.Engine:
        os.environ[disable] = f"{usually},{without}"
        return _core.Engine("rwkv7", model.config, model.tensors, model.data, args.device, 0, "int8", None, max_device_memory=budget)

    engine = open_engine()
    name, weights = engine.info["device_name"], engine.info["device_bytes"]
    resident = measure(engine, args.tokens, 0, args.warm)  # chunks as long as the budgets' follow below
    del engine
    device = open_device(name)
    bare = bare_copy_rate(device)
    rings = {threads: bare_ring_rate(device, threads) for threads in ((1, 8) if args.staging else ())}
    print(f"{name}, {model.name}: {weights / 1e6:.0f} MB on the device; a bare copy loop: {bare / 1e9:.1f} GB/s"
          + "".join(f"; a bare ring, {threads} threads: {rate / 1e9:.1f} GB/s" for threads, rate in rings.items()))  # fmt: skip
    del device
    print(f"resident: {resident['token_ms']:.2f} ms a token, peak {resident['peak_mb']:.0f} MB")
    records = []
    ways = {"kernels": ("", args.percent), "copies": ("carry", args.copies), "staging": ("host-pointer", args.staging)}
    for way, percent in [(way, percent) for way, (_, percents) in ways.items() for percent in percents]:
        try:
            engine = open_engine(round(weights * percent / 100), ways[way][0])
        except InputError as error:
            print(f"{percent:g} %: {error}")
            continue
        start = time.perf_counter()
        got = measure(engine, args.tokens, args.rows, args.warm)
        logits, story = got.pop("logits"), got.pop("story")
        same = np.array_equal(logits, resident["logits"]) and story == resident["story"]
        got |= {"way": way, "percent": percent, "same": same, "compute_ms": resident["token_ms"]}
        got["upload_gb_s"] = got["streamed_mb"] / got["upload_ms"] if got["upload_ms"] else 0.0
        got["over"] = got["token_ms"] / max(got["upload_ms"], got["compute_ms"])
        print(f"{way:7} {percent:5.1f} %  {got['resident_layers']:2d}/{got['layers']} layers, {got['streamed_mb']:7.1f} MB a token | "
              f"{got['token_ms']:6.2f} ms (upload {got['upload_ms']:6.2f}, {got['upload_gb_s']:4.1f} GB/s; kernels "
              f"{got['compute_ms']:5.2f}): x {got['over']:.2f}, {got['streamed_mb'] / got['token_ms']:.1f} GB/s | {got['chunk_rows']} tokens {got['chunk_ms']:6.1f} ms | "
              f"peak {got['peak_mb']:.0f} of {got['budget_mb']:.0f} MB, {'same' if same else 'OTHER'} results, {time.perf_counter() - start:.1f} s",
              flush=True)  # fmt: skip
        records.append(got)
        del engine
    records.sort(key=lambda record: (record["way"], record["percent"]))
    resident.pop("logits"), resident.pop("story")
    engine = open_engine()
    for rows in sorted({record["chunk_rows"] for record in records} - {0}):
        alone = measure_chunk(engine, rows)
        for record in records:
            if record["chunk_rows"] == rows:
                over = record["chunk_ms"] / max(record["upload_ms"], alone)
                record |= {"chunk_compute_ms": alone, "chunk_over": over}
                print(f"{record['way']:7} {record['percent']:5.1f} %  {rows} tokens {record['chunk_ms']:.1f} ms (upload {record['upload_ms']:.1f}, "
                      f"kernels {alone:.1f}): x {over:.2f}")  # fmt: skip
    figures = {"device": name, "model": model.name, "bare_copy_gb_s": bare / 1e9, "bare_ring_gb_s": {t: r / 1e9 for t, r in rings.items()},
               "resident": resident, "budgets": records}  # fmt: skip
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

    fig, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    ways = {"kernels": ("a token, copied in the kernels", "#1f5fa8"), "copies": ("a token, copied between the kernels", "#d08a1d"),
            "staging": ("a token, through mapped buffers", "#4b8b3b")}  # fmt: skip
    of_way = {way: [record for record in figures["budgets"] if record["way"] == way] for way in ways}
    for way, (label, color) in ways.items():
        if of_way[way]:
            axes.plot([r["streamed_mb"] for r in of_way[way]], [r["token_ms"] for r in of_way[way]], "o-", color=color, label=label)
    records = max(of_way.values(), key=len)
    streamed = [r["streamed_mb"] for r in records]
    uploads = [r for r in records if r["streamed_mb"]]
    axes.plot([r["streamed_mb"] for r in uploads], [r["upload_ms"] for r in uploads], "s--", color="#7a7a7a", markersize=4, label="its upload alone")
    line = np.array([0, max(streamed)])
    axes.plot(line, figures["resident"]["token_ms"] + line / figures["bare_copy_gb_s"], ":", color="#c0392b",
              label=f"resident + a bare copy loop (no overlap), {figures['bare_copy_gb_s']:.1f} GB/s")  # fmt: skip
    for r in records:
        at_edge = r["streamed_mb"] < 0.1 * max(streamed)
        axes.annotate(f"{r['percent']:g} %", (r["streamed_mb"], r["token_ms"]), textcoords="offset points",
                      xytext=(7, -3) if at_edge else (-6, 7), ha="left" if at_edge else "right", fontsize=8)  # fmt: skip
    axes.set(xlabel="MB streamed for a token", ylabel="ms", ylim=(0, None), xlim=(-0.03 * max(streamed), None), title=f"{figures['model']}, {figures['device']}, budgets in % of the weights")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    fig.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
