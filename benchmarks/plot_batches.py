"""Tokens per second against the number of sequences and against the length of a prompt, as a picture, beside the roofline.

    python benchmarks/webgpu_batch.py --decode 1 2 4 8 16 32 64 128 256 512 --prefill 512 1024 2048 > FILE
    python benchmarks/plot_batches.py PICTURE.png "LABEL=FILE" ... --title TITLE [--model 2.9b:q4_k_m --read 4607 --matrix 620] [--peer]

A FILE holds what webgpu_batch.py printed, or what `rwkvnative bench --json` did, with tests such as -p 512,2048 -b 1,8,64. The roofline:
the longer of what the least bytes (--read, GB/s) and operations (--matrix, Top/s) of a step take, as `rwkvnative bench` measures the
rates and counts the work. --peer adds llama.cpp's figures for 2.9B Q4_K_M on an H200 (CUDA with graphs; llama-batched-bench and
llama-bench, another run), which hold for no other model or device.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from rwkvnative.bench.random_model import tensor_sizes
from rwkvnative.bench.record import read_report
from rwkvnative.bench.subject import least_work

PEER = "llama.cpp CUDA"
PEER_BATCHES = {1: 194.0, 8: 919.0, 32: 2810.0, 64: 4093.0, 128: 5288.0, 256: 6813.0}
PEER_PROMPTS = {512: 8100.0, 2048: 8737.0}
CHUNK = 1024  # tokens of a prompt that share one reading of the weights
COLOURS = ("#1f5fa8", "#4f9d69", "#9aa9bd", "#c9a227")  # of the newest series, the one before, ...
Points = dict[int, float]


def read(path: str) -> tuple[Points, Points]:
    """Tokens per second by number of sequences, and by length of a prompt."""
    text = Path(path).read_text(encoding="utf-8")
    batches: Points = {}
    prompts: Points = {}
    if text.lstrip().startswith("{"):
        for result in read_report(path).results:
            if match := re.fullmatch(r"tg\d+(?: b(\d+))?", result.test):
                batches[int(match[1] or 1)] = result.rate
            elif match := re.fullmatch(r"pp(\d+)", result.test):
                prompts[int(match[1])] = result.rate
    else:
        for kind, n, rate in re.findall(r"^\S.* \[\] (decode|prefill) (\d+): (\d+) tok/s", text, re.MULTILINE):
            (batches if kind == "decode" else prompts)[int(n)] = float(rate)
    return dict(sorted(batches.items())), dict(sorted(prompts.items()))


class Roofline:
    def __init__(self, model: str, bytes_per_second: float, operations_per_second: float) -> None:
        self.size, self.tensors = tensor_sizes(model)
        self.memory, self.arithmetic = bytes_per_second, operations_per_second

    def seconds(self, rows: int, sequences: int) -> float:
        size = self.size
        state = size.n_layer * size.n_embd * size.head_size
        work = least_work(self.tensors, state, 4 * (state + 2 * size.n_layer * size.n_embd), rows, sequences)
        return max(work.n_bytes / self.memory, work.n_operations / self.arithmetic)

    def batch(self, n: int) -> float:
        return n / self.seconds(n, n)

    def prompt(self, n: int) -> float:
        return n / sum(self.seconds(min(CHUNK, n - begin), 1) for begin in range(0, n, CHUNK))


def panel(axes, series: list[tuple[str, Points]], roofline, peer: Points, what: str) -> None:
    every = sorted({x for _, points in series for x in points} | set(peer))
    labelled: set[int] = set()
    for i, (label, points) in enumerate(reversed(series)):
        colour = COLOURS[i % len(COLOURS)]
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
    parser.add_argument("--peer", action="store_true", help="llama.cpp's figures too")
    args = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    named = [(label, *read(path)) for label, _, path in (item.partition("=") for item in args.series)]
    roofline = Roofline(args.model, args.read * 1e9, args.matrix * 1e12) if args.read and args.matrix else None
    fig, (left, right) = plt.subplots(1, 2, figsize=(13.2, 4.8), layout="constrained")
    batches = [(label, points) for label, points, _ in named if points]
    prompts = [(label, points) for label, _, points in named if points]
    panel(left, batches, roofline and roofline.batch, PEER_BATCHES if args.peer else {}, "sequences, a token each at a time")
    panel(right, prompts, roofline and roofline.prompt, PEER_PROMPTS if args.peer else {}, "tokens of a prompt")
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    fig.suptitle(args.title)
    fig.savefig(args.picture, dpi=120)


if __name__ == "__main__":
    main()
