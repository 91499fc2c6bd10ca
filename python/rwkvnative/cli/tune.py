"""``rwkvnative tune``: find the fastest kernels for a model on this device, and keep the result."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options as opt
from .bench import Models, RandomModels, Warm, check_timing, subjects
from .tables import print_table
from .terminal import ProgressBar, command, note, print_json

if TYPE_CHECKING:
    from ..bench.chunk_tuner import TimedChunk
    from ..bench.tuner import TunedPhase, Tuning


@command
def tune(
    model: Models = None,
    random: RandomModels = None,
    repetitions: Annotated[int, typer.Option("--repetitions", "-r", help="Times that each op is timed; the median counts.")] = 7,
    prompt: Annotated[bool, typer.Option("--prompt/--no-prompt", help="Tune reading prompts too, their chunks' length included, not only single tokens.")] = True,
    warm: Warm = 0.5,
    device: opt.Device = "auto",
    numerics: opt.Numerics = "auto",
    json: opt.Json = False,
) -> None:
    """Try kernel variants and chunk lengths on this device with a model's shapes, keep the fastest, and remember them."""
    from ..bench.tuner import tune as run
    from ..bench.tuning_cache import TuningWarning, prepare, store

    check_timing("tune", repetitions, warm)
    for subject in subjects(model, random, device, None, numerics):
        if subject.engine.tuning_variants() or (prompt and subject.engine.prefill_choices()):
            prepare(subject.identity)  # a cache that cannot be written is told of before minutes of tuning
        with warnings.catch_warnings(record=True) as caught, ProgressBar("tuning") as progress:
            warnings.simplefilter("always", TuningWarning)
            tuning = run(subject.engine, rows=None if prompt else [1], repeats=repetitions, warm_seconds=warm, progress=progress)
        for warning in caught:
            note(f"warning: {warning.message}")
        path = store(subject.identity, tuning.text, tuning.measured())
        if json:
            document: dict[str, Any] = {"model": subject.name, "path": str(path), "tuning": tuning.text, "discarded": tuning.discarded}
            document["phases"] = [vars(p) | {"choices": [vars(c) for c in p.choices]} for p in tuning.phases]
            print_json(document | {"whole": [vars(w) for w in tuning.whole], "chunks": [vars(c) for c in tuning.chunks]})
        else:
            for phase in tuning.phases:
                _print_phase(phase)
            _print_whole(tuning)
            _print_chunks(tuning.chunks)
            note(f"{subject.name}: kept in {path}")
        subject.close()


def _print_phase(phase: TunedPhase) -> None:
    rows = [
        [c.label, f"{c.default_microseconds:.1f}", f"{c.microseconds:.1f}", f"{c.default_microseconds / max(c.microseconds, 1e-9):.2f}", c.variant]
        for c in sorted(phase.choices, key=lambda c: c.microseconds - c.default_microseconds)
    ]  # fmt: skip
    verdict = "kept" if phase.text else "the default stays"
    name = "one token" if phase.rows == 1 else f"a prefill chunk of {phase.rows} tokens"
    print_table(
        ["op", "default us", "chosen us", "ratio", "constants"], rows,
        f"{name}: {1e6 * phase.default_seconds:.1f} us by default, {1e6 * phase.seconds:.1f} us with the choice: {verdict}",
    )  # fmt: skip


def _print_whole(tuning: Tuning) -> None:
    headings = ["constants of the whole model", *(f"{phase.name}, times" for phase in tuning.phases), ""]
    rows = [[w.variant, *(f"{ratio:.3f}" for ratio in w.ratios), "taken" if w.taken else ""] for w in tuning.whole]
    if rows:
        print_table(headings, rows, "a step's time with them over that without")


def _print_chunks(chunks: list[TimedChunk]) -> None:
    default = next((c.tokens_per_second for c in chunks if c.is_default), 0.0)
    rows = [
        [str(c.rows), f"{c.tokens_per_second:.0f}", f"{c.tokens_per_second / max(default, 1e-9):.3f}", f"{c.scratch_bytes / 2**20:.1f}",
         "taken" if c.taken else "the default" if c.is_default else ""]
        for c in chunks
    ]  # fmt: skip
    if rows:
        longest = max(c.rows for c in chunks)
        print_table(["chunk", "tokens/s", "times the default", "scratch MiB", ""], rows, f"a prompt of {longest} tokens, by the length of its chunks")
