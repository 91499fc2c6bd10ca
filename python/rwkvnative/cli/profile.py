"""``rwkvnative profile``: where the time of a token and of a prompt goes, op by op."""

from __future__ import annotations

import json as json_module
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from ..files import NewFile, check_writable
from . import options as opt
from .bench import Models, RandomModels, Warm, check_timing, subjects, whole_numbers
from .tables import print_table
from .terminal import command, note, print_json

if TYPE_CHECKING:
    from ..bench.profile import HostPart, OpRecord, StepRecord

_MOST_OPS = 40  # rows of the table of single ops


@command
def profile(
    model: Models = None,
    random: RandomModels = None,
    batch: Annotated[str, typer.Option("--batch", "-b", metavar="N,...", help="Decode steps of so many sequences.")] = "1",
    prompt: Annotated[
        int | None, typer.Option("--prompt", "-p", metavar="N", help="Rows of the prefill chunk; 0: none. Without it the device's own.")
    ] = None,
    repetitions: Annotated[int, typer.Option("--repetitions", "-r", help="Times that each op is timed; the median counts.")] = 10,
    warm: Warm = 0.5,
    ops: Annotated[bool, typer.Option("--ops", help="Also a table of single ops, the slowest first.")] = False,
    experiment: Annotated[
        bool, typer.Option("--experiment", help="Also time each matrix op of decoding without decoding its weights, and without loading them.")
    ] = False,
    device: opt.Device = "auto",
    threads: opt.Threads = None,
    numerics: opt.Numerics = "auto",
    max_device_memory: opt.MaxDeviceMemory = None,
    json: opt.Json = False,
    trace: Annotated[str | None, typer.Option(metavar="FILE", help="Write a Chrome trace (Perfetto reads it too).")] = None,
    plot: Annotated[str | None, typer.Option(metavar="FILE", help="Write a picture: roofline, and a bar of each step.")] = None,
) -> None:
    """Time every op of a token and of a prefill chunk, and say what bounds it."""
    from ..bench.ceilings import describe, measured
    from ..bench.plot import picture_kind
    from ..bench.profile import experiment as run_experiment
    from ..bench.profile import check_experiment, measure_host, profile_step
    from ..bench.subject import device_facts

    batches = whole_numbers("-b", batch)
    check_timing("profile", repetitions, warm)
    if min(batches) < 1 or (prompt is not None and (prompt < 0 or prompt == 1)):
        raise InputError("[profile] expected -b from 1 up, and -p 0 or from 2 up")
    if len(model or ()) + len(random or ()) > 1:
        raise InputError("[profile] expected one model")
    for path in (trace, plot):  # before minutes of measuring
        if path is not None:
            check_writable(path, "[profile]")
    if plot is not None:
        picture_kind(plot)
        _need_matplotlib()
    for subject in subjects(model, random, device, threads, numerics, max_device_memory):
        facts = device_facts(subject.engine)
        info = subject.engine.info
        most = info["prefill_rows"]
        if prompt is not None and prompt > most:
            raise InputError(f"[profile] -p: a chunk on this device has at most {most} rows, got {prompt}")
        if max(batches) > info["max_batch"]:
            raise InputError(f"[profile] -b: this device decodes at most {info['max_batch']} sequences at once, got {max(batches)}")
        if experiment:
            check_experiment(subject)
        ceilings = subject.engine.ceilings()
        if plot is not None and not measured(ceilings):
            raise InputError(f"[profile] --plot: the {facts['backend']} backend does not measure its roofline yet; --trace and --json work")
        shapes = [(b, b) for b in batches] + ([(prompt or most, 1)] if prompt != 0 else [])
        steps = [profile_step(subject, ceilings, rows, n, repetitions, warm) for rows, n in shapes]
        if not steps[0].timestamps:
            note("the device has no timestamps: each op's time is the wall clock of repeats of it, which is coarser")
        host = measure_host(subject, steps[0]) if batches[0] == 1 else None
        if experiment:
            for step in steps:
                if step.rows == step.sequences:
                    run_experiment(subject, step, repetitions, warm)
        title = f"{subject.name} on {facts['device_name']} ({facts['backend']})"
        if trace is not None:
            from ..bench.trace import chrome_trace

            with NewFile(trace, "[profile]") as file:
                file.write(json_module.dumps(chrome_trace(title, steps)).encode())
        if plot is not None:
            from ..bench.plot import plot as draw

            draw(plot, title, steps, ceilings)
        if json:
            print_json({
                "tool": "rwkvnative profile", "version": 1, "model": subject.name, "types": subject.types, "device": facts,
                "ceilings": ceilings, "steps": [step.as_dict() for step in steps],
                "host": None if host is None else vars(host) | {"lost": host.lost()},
            })  # fmt: skip
        else:
            note(f"{title}; {describe(ceilings)}")
            for step in steps:
                _print_step(step, experiment)
                if ops:
                    _print_ops(step)
            if host is not None:
                _print_host(host)
        subject.close()


def _print_step(step: StepRecord, experiment: bool) -> None:
    headings = ["op", "count", "us each", "us", "share", "MB", "GB/s", "Gop", "% of roofline", "bound by"]
    if experiment:
        headings += ["us with plain loads", "us without loads"]
    rows = []
    for label, ops in step.kinds():
        time, n_bytes = sum(op.microseconds for op in ops), sum(op.n_bytes for op in ops)
        row = [
            label, str(len(ops)), f"{time / len(ops):.2f}", f"{time:.1f}", f"{100 * time / step.step_microseconds:.1f} %",
            f"{n_bytes / 1e6:.2f}", f"{n_bytes / max(time, 1e-9) / 1e3:.1f}", f"{sum(op.n_operations for op in ops) / 1e9:.3f}",
            f"{100 * sum(op.least_microseconds for op in ops) / max(time, 1e-9):.0f}", ops[0].bound,
        ]  # fmt: skip
        if experiment:
            row += [_mean(ops, "plain_microseconds"), _mean(ops, "constant_microseconds")]
        rows.append(row)
    blank = ["", ""] if experiment else []
    if step.uploads:
        time, n_bytes = step.upload_microseconds, sum(upload.n_bytes for upload in step.uploads)
        alone = sum(upload.raw_microseconds for upload in step.uploads)
        rows.append(
            ["(weights on their way)", str(len(step.uploads)), f"{time / len(step.uploads):.2f}", f"{time:.1f}",
             f"{100 * time / step.step_microseconds:.1f} %", f"{n_bytes / 1e6:.2f}", f"{n_bytes / max(alone, 1e-9) / 1e3:.1f}", "", "",
             "upload", *blank]
        )  # fmt: skip
    if step.host_microseconds:
        idle = step.host_microseconds
        rows.append(
            ["(device idle)", "", "", f"{idle:.1f}", f"{100 * idle / step.step_microseconds:.1f} %", "", "", "", "", "host", *blank]
        )
    clock = f"clocks took {step.overhead_microseconds:.2f} us an op, taken off" if step.overhead_microseconds else "clocks took nothing"
    shares = ", ".join(f"{name} {100 * t / step.step_microseconds:.0f} %" for name, t in step.shares().items())
    print_table(
        headings, rows,
        f"{step.name}: {step.step_microseconds:.1f} us ({1e6 * step.rows / step.step_microseconds:.0f} tok/s), bound by {step.bound} "
        f"({shares}); {len(step.ops)} ops; {clock}; the roofline alone allows {step.least_microseconds:.1f} us",
    )  # fmt: skip


def _mean(ops: list[OpRecord], name: str) -> str:
    values = [getattr(op, name) for op in ops if getattr(op, name) is not None]
    return f"{sum(values) / len(values):.2f}" if values else ""


def _print_ops(step: StepRecord) -> None:
    slowest = sorted(step.ops, key=lambda op: -op.microseconds)[:_MOST_OPS]
    rows = [
        [
            op.label, str(op.layer) if op.layer >= 0 else "", f"{op.microseconds:.2f}", f"{op.raw_microseconds:.2f}", f"{op.n_bytes / 1e6:.3f}",
            f"{op.bytes_per_second / 1e9:.1f}", f"{100 * op.share_of_roofline:.0f}", op.bound,
        ]
        for op in slowest
    ]  # fmt: skip
    print_table(["op", "layer", "us", "measured us", "MB", "GB/s", "% of roofline", "bound by"], rows, f"{step.name}: single ops")


def _print_host(host: HostPart) -> None:
    rows = []
    if host.encode_seconds < 0.5 * host.step_seconds:  # on a CPU a submit is the work itself
        rows.append(["encode and submit", f"{host.encode_seconds * 1e6:.1f}", "hidden while tickets are in flight"])
    rows += [[what, f"{seconds * 1e6:.1f}", f"{lost:.1f}"] for what, seconds, lost in host.lost()]
    print_table(["the host's part of a token", "us", "tok/s lost"], rows, f"greedy decoding: {1 / host.step_seconds:.1f} tok/s")


def _need_matplotlib() -> None:
    """Before minutes of measuring."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise InputError("[profile] --plot needs matplotlib: pip install 'rwkvnative[plot]'")
