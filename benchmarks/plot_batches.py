"""Tokens per second against the number of sequences and against the length of a prompt, as a picture, beside the roofline.

    rwkvnative bench --random 2.9b:q4_k_m -p 16,32,64,128,256,512,1024,2048,4096 -n 16 -b 1,2,4,8,16,32,64,128,256,512 --json > FILE.json
    python benchmarks/plot_batches.py FILE.json docs/batches.png [--peer]

The roofline is the bench's own: the longer of what the least bytes and operations of a test take at the rates that it measured on the
device. --peer adds llama.cpp's figures for 2.9B Q4_K_M on the same kind of GPU (CUDA with graphs; llama-batched-bench and llama-bench,
another run), which hold for no other model or device.
"""

from __future__ import annotations

import argparse
import re

from rwkvnative.bench.ceilings import least_seconds, measured
from rwkvnative.bench.record import Report, Result, read_report

PEER = "llama.cpp CUDA"
PEER_BATCHES = {1: 194, 8: 919, 32: 2810, 64: 4093, 128: 5288, 256: 6813}
PEER_PROMPTS = {512: 8100, 2048: 8737}


def sizes(results: list[Result], pattern: str) -> dict[int, Result]:
    """The tests whose label matches, by the number in it (1 where there is none), rising."""
    found = ((re.fullmatch(pattern, r.test), r) for r in results)
    return dict(sorted((int(match[1] or 1), r) for match, r in found if match))


def panel(axes, tests: dict[int, Result], report: Report, peer: dict[int, int], what: str) -> None:
    xs = list(tests)
    ours = [tests[x].rate for x in xs]
    axes.plot(xs, ours, "o-", color="#1f5fa8", label="rwkvnative")
    if measured(report.ceilings):
        roof = [r.n_tokens / least_seconds(report.ceilings, r.n_bytes, r.n_operations) for r in tests.values()]
        axes.plot(xs, roof, "--", color="#7a7a7a", label="roofline: memory and matrix units")
    if peer:
        axes.plot(list(peer), list(peer.values()), "s:", color="#c0392b", label=PEER)
    for x, y in zip(xs, ours, strict=True):
        axes.annotate(f"{y:.0f}", (x, y), textcoords="offset points", xytext=(-4, 7), ha="right", fontsize=8, color="#1f5fa8")
    for x, y in peer.items():
        axes.annotate(f"{y}", (x, y), textcoords="offset points", xytext=(5, -11), fontsize=8, color="#c0392b")
    axes.set(xscale="log", yscale="log", xlabel=what, ylabel="tokens/s in all", xlim=(xs[0] / 1.8, xs[-1] * 1.5))
    axes.set_xticks(xs, [str(x) for x in xs], minor=False)
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="lower right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", help="what rwkvnative bench --json printed")
    parser.add_argument("picture", help="PNG, SVG or PDF by its ending")
    parser.add_argument("--peer", action="store_true", help="llama.cpp's figures too")
    args = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    report = read_report(args.json)
    panels = [
        (sizes(report.results, r"tg\d+(?: b(\d+))?"), PEER_BATCHES, "sequences, a token each at a time"),
        (sizes(report.results, r"pp(\d+)"), PEER_PROMPTS, "tokens of a prompt"),
    ]
    panels = [p for p in panels if p[0]]
    fig, row = plt.subplots(1, len(panels), figsize=(6.6 * len(panels), 4.8), layout="constrained", squeeze=False)
    for axes, (tests, peer, what) in zip(row[0], panels, strict=True):
        panel(axes, tests, report, peer if args.peer else {}, what)
    fig.suptitle(f"{report.results[0].model} on {report.device['device_name']} ({report.device['backend']})")
    fig.savefig(args.picture, dpi=120)


if __name__ == "__main__":
    main()
