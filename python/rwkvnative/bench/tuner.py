"""Finds the fastest kernel constants for a model on a device.

Every variant of the backend (workgroup sizes, threads and rows of a matrix row, subgroups or shared memory, ...) is compiled for the
whole model and profiled, so one profile times it on every kind of op at once. Each kind keeps its own best, by median, if that beats
the default by a margin. Variants that fail, or whose logits differ from the default's by more than rounding, are discarded. The
choices together are held against the default once more, as whole steps in turn, and dropped if they do not win.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .. import _core
from ..errors import DeviceError, InputError
from .tuning_cache import TuningWarning

__all__ = ["Choice", "TunedPhase", "Tuning", "combine", "tune"]

# Relative distance of two rows of logits. Another order of sums moves a few int8 activations by a step (seen up to 1e-2); a wrong
# kernel is off by about 1.
_TOLERANCE = 3e-2
_KIND_MARGIN, _STEP_MARGIN = 0.97, 0.99  # how much faster a choice must be to be taken
_ROUNDS = 3  # of default and choice in turn, at the end
_PROMPT = (11, 7, 1021, 3, 500)


@dataclass(frozen=True)
class Choice:
    """A kind of op and the variant that was fastest on it; microseconds of all its ops in a step, by default and chosen."""

    label: str
    variant: str
    default_microseconds: float
    microseconds: float


@dataclass
class TunedPhase:
    """`name`: "decode" (one row) or "many" (a prefill chunk). `text` is "" where the default stays."""

    name: str
    rows: int
    text: str = ""
    choices: list[Choice] = field(default_factory=list)
    default_seconds: float = 0.0
    seconds: float = 0.0


@dataclass
class Tuning:
    """`text` is for ``_core.Engine.set_tuning``. `discarded`: (variant, why)."""

    text: str
    phases: list[TunedPhase]
    discarded: list[tuple[str, str]]


def combine(phase: str, choices: Sequence[Choice]) -> str:
    """The text that gives each kind of op its own variant."""
    return ";".join(f"{phase}/{c.label}:{c.variant}" for c in choices)


def tune(
    engine: _core.Engine,
    *,
    variants: Sequence[str] | None = None,
    rows: Sequence[int] | None = None,
    repeats: int = 7,
    warm_seconds: float = 0.5,
    progress: Callable[[int, int], object] | None = None,
) -> Tuning:
    """Tune decoding and prefill, and leave the engine with the result.

    variants: what to try, all of the backend's by default. rows: the steps to tune for, 1 and the device's chunk by default.
    progress: called with (profiles done, profiles in all).

    InputError where the backend has nothing to tune. A discarded variant is warned of.
    """
    tried = list(engine.tuning_variants() if variants is None else variants)
    if not tried:
        raise InputError(f"[tune] the {engine.info['backend']} backend has nothing to tune")
    shapes = list(rows) if rows is not None else [1, engine.info["prefill_rows"]]
    discarded: dict[str, str] = {}
    phases, done, text = [], 0, ""
    for n in shapes:
        phase = TunedPhase("decode" if n == 1 else "many", n)
        reference = _reference(engine, n, "")
        base = _times(engine, n, repeats, warm_seconds)
        best = {label: Choice(label, "", t, t) for label, t in base.items()}
        whole: list[str] = []
        for variant in tried:
            if progress is not None:
                progress(done, len(shapes) * len(tried))
            done += 1
            if variant in discarded:
                continue
            try:
                engine.set_tuning(variant)
                _check(engine, n, reference)
                times = _times(engine, n, repeats, 0.0)
            except (DeviceError, InputError, _MismatchError) as error:
                _discard(discarded, variant, error)
                continue
            if not _is_of_kinds(engine, variant):
                whole.append(variant)
                continue
            for label, t in times.items():
                if label in best and t < min(_KIND_MARGIN * best[label].default_microseconds, best[label].microseconds):
                    best[label] = Choice(label, variant, best[label].default_microseconds, t)
        phase.choices = [c for c in best.values() if c.variant]
        kinds = combine(phase.name, phase.choices)
        candidates = [c for c in ([kinds] if kinds else []) + [f"{v};{kinds}" if kinds else v for v in whole] if c]
        _decide(engine, phase, candidates, reference, discarded, repeats)
        if phase.text:
            text = f"{text};{phase.text}" if text else phase.text
        phases.append(phase)
    engine.set_tuning(text)
    return Tuning(text, phases, list(discarded.items()))


class _MismatchError(Exception):
    """Logits that are not the default's."""


def _decide(
    engine: _core.Engine,
    phase: TunedPhase,
    candidates: Sequence[str],
    reference: npt.NDArray[np.float32],
    discarded: dict[str, str],
    repeats: int,
) -> None:
    """Time whole steps of the default and of each candidate in turn, and take the fastest."""
    seconds: dict[str, list[float]] = {"": []}
    for candidate in candidates:
        try:
            engine.set_tuning(candidate)
            _check(engine, phase.rows, reference)
            seconds[candidate] = []
        except (DeviceError, InputError, _MismatchError) as error:
            _discard(discarded, candidate, error)
    for _ in range(_ROUNDS):
        for candidate, times in seconds.items():
            engine.set_tuning(candidate)
            times.append(_step_seconds(engine, phase.rows, repeats))
    medians = {candidate: statistics.median(times) for candidate, times in seconds.items()}
    phase.default_seconds = medians[""]
    winner = min(medians, key=lambda c: medians[c])
    phase.text = winner if medians[winner] < _STEP_MARGIN * medians[""] else ""
    phase.seconds = medians[phase.text]


def _step_seconds(engine: _core.Engine, rows: int, repeats: int) -> float:
    return engine.profile(rows, 1, repeats, 0.1)["step_seconds"]


def _times(engine: _core.Engine, rows: int, repeats: int, warm_seconds: float) -> dict[str, float]:
    """Microseconds of a step by label: the median of each op, added up."""
    times: dict[str, float] = {}
    for op in engine.profile(rows, 1, repeats, warm_seconds)["ops"]:
        times[op["label"]] = times.get(op["label"], 0.0) + op["microseconds"]
    return times


def _logits(engine: _core.Engine, rows: int) -> npt.NDArray[np.float32]:
    """float32 [n, V]: after each of some tokens fed one by one, or after one prompt of `rows` tokens."""
    state, n_vocab = engine.new_state(), engine.info["n_vocab"]
    if rows == 1:
        tokens = [np.array([t % n_vocab], np.int32) for t in _PROMPT]
        return np.stack([engine.forward(t, state, state, "last") for t in tokens])
    prompt = ((1 + np.arange(rows, dtype=np.int64) * 7919) % n_vocab).astype(np.int32)
    return engine.forward(prompt, None, state, "last")[np.newaxis]


def _reference(engine: _core.Engine, rows: int, text: str) -> npt.NDArray[np.float32]:
    engine.set_tuning(text)
    return _logits(engine, rows)


def _check(engine: _core.Engine, rows: int, reference: npt.NDArray[np.float32]) -> None:
    got = _logits(engine, rows)
    errors = np.linalg.norm(got - reference, axis=1) / np.linalg.norm(reference, axis=1)
    if not (np.isfinite(errors).all() and errors.max() <= _TOLERANCE):
        raise _MismatchError(f"its logits are off by {errors.max():.2g} of their norm, expected at most {_TOLERANCE}")


def _is_of_kinds(engine: _core.Engine, variant: str) -> bool:
    """Whether single kinds of ops can have the variant; else it is one of the whole model."""
    try:
        engine.set_tuning(f"decode/any:{variant}")
    except InputError:
        return False
    return True


def _discard(discarded: dict[str, str], variant: str, error: Exception) -> None:
    discarded[variant] = str(error)
    warnings.warn(f"[tune] {variant} is discarded: {error}", TuningWarning, stacklevel=3)
