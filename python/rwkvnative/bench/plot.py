"""A profile as a picture: the roofline with every kind of op on it, and one bar of the step cut into its ops."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from .. import _core
from ..errors import InputError
from ..files import NewFile
from .ceilings import arithmetic_rate
from .profile import ARITHMETIC, HOST, LATENCY, MEMORY, UPLOAD, StepRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["picture_kind", "plot"]

_KINDS = ("png", "svg", "pdf")
_COLOURS = {MEMORY: "#2a6fbb", ARITHMETIC: "#c8552b", LATENCY: "#8a8a8a", UPLOAD: "#4c9f70", HOST: "#d9a514"}
_MARKERS = "osD^vP*XhH<>pd8"
_LEAST_LABELLED = 0.012  # of the step: a piece of the bar that is named in the picture


def picture_kind(path: str | os.PathLike[str]) -> str:
    """The ending of a picture's name, in small letters; InputError if it is none of `plot`'s."""
    kind = os.path.splitext(os.fspath(path))[1].lower().removeprefix(".")
    if kind not in _KINDS:
        raise InputError(f"[profile] --plot {os.fspath(path)}: expected a name that ends in .{', .'.join(_KINDS)}")
    return kind


def plot(path: str | os.PathLike[str], title: str, steps: list[StepRecord], ceilings: _core.Ceilings) -> None:
    """Write a picture (PNG, SVG or PDF by the name's ending), one row for each step. InputError without matplotlib, or for another
    ending; FileError if it cannot be written."""
    kind = picture_kind(path)
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise InputError("[profile] --plot needs matplotlib: pip install 'rwkvnative[plot]'") from None
    figure, rows = pyplot.subplots(
        len(steps), 2, figsize=(16, 9.5 * len(steps)), squeeze=False, width_ratios=(1.25, 1), layout="constrained"
    )
    figure.suptitle(title, fontsize=13)
    for (roofline, bar), step in zip(rows, steps, strict=True):
        _roofline(roofline, step, ceilings)
        _bar(bar, step)
    picture = io.BytesIO()
    try:
        figure.savefig(picture, dpi=110, format=kind)
    finally:
        pyplot.close(figure)
    with NewFile(path, "[profile] --plot") as file:
        file.write(picture.getvalue())


def _roofline(axes: Axes, step: StepRecord, ceilings: _core.Ceilings) -> None:
    """Operations per byte against operations per second; the lines are what memory and each arithmetic allow."""
    memory = ceilings["read_bytes_per_second"]
    groups = [(label, ops) for label, ops in step.kinds() if sum(op.n_operations for op in ops) and sum(op.n_bytes for op in ops)]
    points = []
    for label, ops in groups:
        seconds = sum(op.microseconds for op in ops) * 1e-6
        operations, n_bytes = sum(op.n_operations for op in ops), sum(op.n_bytes for op in ops)
        points.append((label, operations / n_bytes, operations / max(seconds, 1e-12), seconds, ops))
    rates = {name: arithmetic_rate(ceilings, name) for name in ("int8", "f16", "f32")} | {"f16 matrix": ceilings["matrix_per_second"]}
    rates = {name: rate for name, rate in rates.items() if rate}
    ridge = max(rates.values(), default=memory) / memory
    left = 0.5 * min([p[1] for p in points], default=0.1)
    right = max(4 * ridge, 4 * max([p[1] for p in points], default=1.0))
    axes.plot([left, ridge], [left * memory, ridge * memory], color="black", linewidth=1.5)
    above = float("inf")
    for i, (name, rate) in enumerate(sorted(rates.items(), key=lambda item: -item[1])):
        axes.plot([rate / memory, right], [rate, rate], color="black", linewidth=1.5 if i == 0 else 0.8, linestyle="-" if i == 0 else "--")
        offset = 4 if above > 1.8 * rate else -12  # below its line where the one above is near
        axes.annotate(f"{name} {rate / 1e12:.3g} Top/s", (right, rate), (-4, offset), textcoords="offset points", ha="right", fontsize=9)
        above = rate
    total = step.step_microseconds * 1e-6
    for i, (label, x, y, seconds, ops) in enumerate(points):
        axes.scatter(
            x, y, s=30 + 700 * min(1.0, seconds / total), marker=_MARKERS[i % len(_MARKERS)], color=_COLOURS[ops[0].bound], alpha=0.75,
            edgecolors="black", linewidths=0.5, zorder=3, label=f"{label}: {100 * seconds / total:.1f} %, "
            f"{100 * sum(op.least_microseconds for op in ops) / max(1e-9, 1e6 * seconds):.0f} % of roofline",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(left, right), xlabel="operations per byte", ylabel="operations per second")
    lowest = min([p[2] for p in points], default=left * memory)
    axes.set_ylim(0.3 * min(lowest, left * memory), 4 * max(rates.values(), default=memory))
    axes.set_title(f"{step.name}: roofline, {memory / 1e9:.0f} GB/s; marker area: share of the time", fontsize=11)
    axes.grid(which="major", alpha=0.3)
    legend = axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.09))  # below: it hides no op
    for handle in legend.legend_handles:
        handle.set_sizes([40])  # type: ignore[union-attr]


def _bar(axes: Axes, step: StepRecord) -> None:
    """The step's time from the first op at the bottom to the host's part on top, ops of a kind together."""
    pieces: list[tuple[str, float, str]] = []
    rest = 0.0
    for label, ops in step.kinds():
        time = sum(op.microseconds for op in ops)
        if time < _LEAST_LABELLED * step.step_microseconds:
            rest += time
        else:
            count = f"{len(ops)} x {time / len(ops):.1f}" if len(ops) > 1 else f"{time:.1f}"
            pieces.append((f"{label}: {count} us, bound by {ops[0].bound}", time, _COLOURS[ops[0].bound]))
    if rest:
        pieces.append((f"others: {rest:.1f} us", rest, "#cccccc"))
    if step.uploads:
        pieces.append((f"weights on their way: {step.upload_microseconds:.1f} us", step.upload_microseconds, _COLOURS[UPLOAD]))
    if step.host_microseconds > 0.001 * step.step_microseconds:
        pieces.append((f"host (device idle): {step.host_microseconds:.1f} us", step.host_microseconds, _COLOURS[HOST]))
    total = sum(time for _, time, _ in pieces)
    at = 0.0
    edges: list[tuple[float, str]] = []
    for label, time, colour in pieces:
        axes.bar(0, time, 0.5, bottom=at, color=colour, edgecolor="white", linewidth=1.2)
        edges.append((at + time / 2, f"{100 * time / total:.1f} %  {label}"))
        at += time
    for (middle, label), text_at in zip(edges, _spread([m for m, _ in edges], total), strict=True):
        axes.annotate(
            label, (0.25, middle), (0.36, text_at), fontsize=9, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.7, "relpos": (0, 0.5)},
        )  # fmt: skip
    axes.set(xlim=(-0.35, 2.3), ylim=(0, total * 1.0001), xticks=[], ylabel="microseconds")
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    names = ", ".join(f"{name} {100 * time / total:.0f} %" for name, time in step.shares().items() if time > 0.005 * total)
    axes.set_title(f"{step.name}: {step.step_microseconds:.0f} us, by bound: {names}", fontsize=11, pad=16)


def _spread(middles: list[float], total: float) -> list[float]:
    """Heights for labels near `middles` (rising) that keep a line's distance from each other and stay inside the bar."""
    least = total * 0.034
    heights: list[float] = []
    for middle in middles:
        heights.append(max(middle, heights[-1] + least if heights else 0.0))
    top = total
    for i in range(len(heights) - 1, -1, -1):
        heights[i] = min(heights[i], top)
        top = heights[i] - least
    return heights
