"""Tokens per second against the number of sequences, the length of a prompt and that of its chunks, as a picture, beside the roofline.

    python benchmarks/webgpu_batch.py --decode 1 2 4 8 16 32 64 128 256 512 --prefill 512 1024 2048 > FILE
    python benchmarks/plot_batches.py PICTURE.png "LABEL=FILE" ... --title TITLE [--model 2.9b:q4_k_m --read 4607 --matrix 620] [--peer]

A FILE holds what webgpu_batch.py printed, or what `rwkvnative bench --json` did, with tests such as -p 16,64,256,1024,4096 -b 1,8,64, or
`rwkvnative tune --json`, which times lengths of chunks; of one model. There is a panel for each kind of figure that the files have. The
roofline: the longer of what the least bytes (--read, GB/s) and operations (--matrix, Top/s) of a step take, as `rwkvnative bench` measures the
rates and counts the work, --chunk tokens of a prompt to one reading of the weights. --peer adds llama.cpp's figures for 2.9B Q4_K_M on an H200 (CUDA with graphs; llama-batched-bench and
llama-bench, another run), which hold for no other model or device.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from rwkvnative.bench.random_model import tensor_sizes
from rwkvnative.bench.record import read_report
from rwkvnative.bench.subject import least_work

PEER = "llama.cpp CUDA"
PEER_BATCHES = {1: 194.0, 8: 919.0, 32: 2810.0, 64: 4093.0, 128: 5288.0, 256: 6813.0}
PEER_PROMPTS = {512: 8100.0, 2048: 8737.0}
COLOURS = ("#1f5fa8", "#4f9d69", "#9aa9bd", "#c9a227")  # of the newest series, the one before, ...
Points = dict[int, float]
WHAT = ("sequences, a token each at a time", "tokens of a prompt", "tokens of a prompt's chunk")


def read(path: str) -> tuple[Points, Points, Points]:
    """Tokens per second by number of sequences, by length of a prompt, and by length of its chunks (as in `WHAT`)."""
    text = Path(path).read_text(encoding="utf-8")
    batches: Points = {}
    prompts: Points = {}
    chunks: Points = {}
    if text.lstrip().startswith("{") and "chunks" in (document := json.loads(text)):
        chunks = {chunk["rows"]: chunk["tokens_per_second"] for chunk in document["chunks"]}
    elif text.lstrip().startswith("{"):
        results = read_report(path).results
        if len(models := sorted({result.model for result in results})) > 1:
            raise SystemExit(f"{path}: expected one model, got {', '.join(models)}")
        for result in results:
            if match := re.fullmatch(r"tg\d+(?: b(\d+))?", result.test):
                batches[int(match[1] or 1)] = result.rate
            elif match := re.fullmatch(r"pp(\d+)", result.test):
                prompts[int(match[1])] = result.rate
    else:
        for kind, n, rate in re.findall(r"^\S.* \[\] (decode|prefill) (\d+): (\d+) tok/s", text, re.MULTILINE):
            (batches if kind == "decode" else prompts)[int(n)] = float(rate)
    if not batches and not prompts and not chunks:
        raise SystemExit(f"{path}: expected output of webgpu_batch.py, `rwkvnative bench --json` or `rwkvnative tune --json`")
    return dict(sorted(batches.items())), dict(sorted(prompts.items())), dict(sorted(chunks.items()))


class Roofline:
    def __init__(self, model: str, bytes_per_second: float, operations_per_second: float, chunk: int) -> None:
        self.size, self.tensors = tensor_sizes(model)
        self.memory, self.arithmetic, self.length = bytes_per_second, operations_per_second, chunk

    def seconds(self, rows: int, sequences: int) -> float:
        size = self.size
        state = size.n_layer * size.n_embd * size.head_size
        work = least_work(self.tensors, state, 4 * (state + 2 * size.n_layer * size.n_embd), rows, sequences)
        return max(work.n_bytes / self.memory, work.n_operations / self.arithmetic)

    def batch(self, n: int) -> float:
        return n / self.seconds(n, n)

    def prompt(self, n: int) -> float:
        return n / sum(self.seconds(min(self.length, n - begin), 1) for begin in range(0, n, self.length))

    def chunk(self, n: int) -> float:
        return n / self.seconds(n, 1)


def panel(axes, series: list[tuple[str, Points]], colours: dict[str, str], roofline, peer: Points, what: str) -> None:
    from matplotlib.ticker import LogFormatter

    class PlainNumbers(LogFormatter):  # 36,000, not 3.6e+04; few labels where the axis spans much
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:,.0f}" if super().__call__(x, pos) else ""

    every = sorted({x for _, points in series for x in points} | set(peer))
    labelled: set[int] = set()
    for i, (label, points) in enumerate(reversed(series)):
        colour = colours[label]
        axes.plot(list(points), list(points.values()), "o-", color=colour, label=label, zorder=9 - i)
        for x in points.keys() - labelled:  # one figure for an x: the newest
            axes.annotate(f"{points[x]:.0f}", (x, points[x]), textcoords="offset points", xytext=(-4, 7), ha="right", fontsize=8, color=colour)
        labelled |= points.keys()
    if roofline is not None:
        xs = [2**i for i in range(min(every).bit_length() - 1, max(every).bit_length())]
        axes.plot(xs, [roofline(x) for x in xs], "--", color="#7a7a7a", label="roofline: memory and matrix units")
    if peer:
        axes.plot(list(peer), list(peer.values()), "s:", color="#c0392b", label=PEER)
        for x, y in peer.items():
            axes.annotate(f"{y:.0f}", (x, y), textcoords="offset points", xytext=(5, -11), fontsize=8, color="#c0392b")
    axes.set(xscale="log", yscale="log", xlabel=what, ylabel="tokens/s in all", xlim=(every[0] / 1.8, every[-1] * 1.5))
    axes.set_xticks(every, [str(x) for x in every], minor=False)
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(PlainNumbers(minor_thresholds=(2, 0.5)))
    axes.yaxis.set_minor_formatter(PlainNumbers(minor_thresholds=(2, 0.5)))
    axes.grid(alpha=0.3, which="both")
    axes.margins(y=0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", help="PNG, SVG or PDF by its ending")
    parser.add_argument("series", nargs="+", metavar="LABEL=FILE", help="the last one is the newest")
    parser.add_argument("--title", default="")
    parser.add_argument("--model", default="2.9b:q4_k_m", metavar="SIZE:TYPE", help="of the roofline")
    parser.add_argument("--read", type=float, help="GB/s")
    parser.add_argument("--matrix", type=float, help="Top/s")
    parser.add_argument("--chunk", type=int, default=1024, help="tokens")
    parser.add_argument("--peer", action="store_true", help="llama.cpp's figures too")
    args = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    named = [(label, *read(path)) for label, _, path in (item.partition("=") for item in args.series)]
    roofline = Roofline(args.model, args.read * 1e9, args.matrix * 1e12, args.chunk) if args.read and args.matrix else None
    lines = (roofline.batch, roofline.prompt, roofline.chunk) if roofline else (None, None, None)
    peers = (PEER_BATCHES, PEER_PROMPTS, {}) if args.peer else ({}, {}, {})
    labels = list(dict.fromkeys(label for label, *_ in reversed(named)))
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}
    kinds = [i for i in range(len(WHAT)) if any(points[i] for _, *points in named)]
    fig, axes = plt.subplots(1, len(kinds), figsize=(6.6 * len(kinds), 4.8), layout="constrained", squeeze=False)
    for i, place in zip(kinds, axes[0], strict=True):
        panel(place, [(label, points[i]) for label, *points in named if points[i]], colours, lines[i], peers[i], WHAT[i])
    # A legend for all panels.
    entries = {label: handle for place in axes[0] for handle, label in zip(*place.get_legend_handles_labels(), strict=True)}
    fig.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=6)
    fig.suptitle(args.title)
    fig.savefig(args.picture, dpi=120)


if __name__ == "__main__":
    main()
