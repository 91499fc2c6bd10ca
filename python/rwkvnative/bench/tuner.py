"""Finds the fastest kernel constants for a model on a device.

Every variant of the backend (workgroup sizes, threads and rows of a matrix row, subgroups or shared memory, ...) is compiled for the
whole model and profiled, so one profile times it on every kind of op at once. Each kind keeps its own best, by median, if that beats
the default by a margin. Variants that fail, or whose logits differ from the default's by more than rounding, are discarded. The
choices together are held against the default once more, as whole steps in turn, and dropped if they do not win.

Variants of the whole model (int8 or float arithmetic, fused or not, the layout of the weights: for that the model is loaded anew)
come after that, on top of those choices: the best of them is taken if it makes one of the steps faster and none slower.

Last comes the length of the chunks that a prompt is read in, by all of those choices: see `chunk_tuner`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .. import _core
from ..errors import DeviceError, InputError
from .chunk_tuner import TimedChunk, time_chunks, with_chunk
from .tuning_checks import MismatchError, check_logits, discard

__all__ = ["Choice", "TunedPhase", "Tuning", "combine", "tune"]

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
class WholeVariant:
    """A variant of the whole model. `ratios`: of each phase, its step's time with the variant over that without."""

    variant: str
    ratios: list[float]
    taken: bool = False


@dataclass
class Tuning:
    """`text` is for ``_core.Engine.set_tuning``. `discarded`: (variant, why). `whole`: the variants of the whole model. `chunks`:
    the chunk lengths of a prompt, rising."""

    text: str
    phases: list[TunedPhase]
    discarded: list[tuple[str, str]]
    whole: list[WholeVariant] = field(default_factory=list)
    chunks: list[TimedChunk] = field(default_factory=list)

    def measured(self) -> dict[str, object]:
        """What the cache keeps beside the text, for people."""
        steps: dict[str, object] = {p.name: {"default_seconds": p.default_seconds, "seconds": p.seconds} for p in self.phases}
        chunks = {c.rows: {"tokens_per_second": c.tokens_per_second, "scratch_bytes": c.scratch_bytes} for c in self.chunks}
        return steps | ({"chunks": chunks} if chunks else {})


def combine(phase: str, choices: Sequence[Choice]) -> str:
    """The text that gives each kind of op its own variant."""
    return ";".join(f"{phase}/{c.label}:{c.variant}" for c in choices)


def tune(
    engine: _core.Engine,
    *,
    variants: Sequence[str] | None = None,
    rows: Sequence[int] | None = None,
    chunks: Sequence[int] | None = None,
    repeats: int = 7,
    warm_seconds: float = 0.5,
    progress: Callable[[int, int], object] | None = None,
) -> Tuning:
    """Tune decoding and prefill, and leave the engine with the result.

    variants: what to try, all of the backend's by default. rows: the steps to tune for, 1 and the device's chunk by default.
    chunks: chunk lengths to try; by default what the device offers, and none if `rows` is given.
    progress: called with (profiles and chunk lengths done, and in all).

    InputError where the backend has nothing to tune. A discarded variant is warned of.
    """
    engine.set_tuning("")
    tried = list(engine.tuning_variants() if variants is None else variants)
    lengths = list(chunks) if chunks is not None else engine.prefill_choices() if rows is None else []
    if not tried and not lengths:
        raise InputError(f"[tune] the {engine.info['backend']} backend has nothing to tune{' but for prompts' if rows is not None else ''}")
    shapes = [] if not tried else list(rows) if rows is not None else [1, engine.info["prefill_rows"]]
    discarded: dict[str, str] = {}
    # One that is neither of kinds nor valid at all fails with its reason below.
    of_kinds = [v for v in tried if _is_of_kinds(engine, v)]
    whole = [v for v in tried if v not in of_kinds]
    references = {n: _reference(engine, n, "") for n in shapes}
    phases, done, total = [], 0, len(shapes) * len(of_kinds) + len(whole) + len(lengths)

    def report() -> None:
        nonlocal done
        if progress is not None:
            progress(done, total)
        done += 1

    for n in shapes:
        phase = TunedPhase("decode" if n == 1 else "many", n)
        engine.set_tuning("")
        base = _times(engine, n, repeats, warm_seconds)
        best = {label: Choice(label, "", t, t) for label, t in base.items()}
        for variant in of_kinds:
            report()
            if variant in discarded:
                continue
            try:
                engine.set_tuning(variant)
                _check(engine, n, references[n])
                times = _times(engine, n, repeats, 0.0)
            except (DeviceError, InputError, MismatchError) as error:
                discard(discarded, variant, error)
                continue
            for label, t in times.items():
                if label in best and t < min(_KIND_MARGIN * best[label].default_microseconds, best[label].microseconds):
                    best[label] = Choice(label, variant, best[label].default_microseconds, t)
        phase.choices = [c for c in best.values() if c.variant]
        phases.append(phase)
        _decide_kinds(engine, phase, references[n], discarded, repeats)
    text = ";".join(phase.text for phase in phases if phase.text)
    timed = []
    for variant in whole:
        report()
        timed.append(_time_whole(engine, variant, text, references, discarded, repeats, warm_seconds))
    tuning = Tuning(text, phases, list(discarded.items()), [t for t in timed if t is not None])
    better = [t for t in tuning.whole if t.ratios and max(t.ratios) < 1 / _STEP_MARGIN and min(t.ratios) < _STEP_MARGIN]
    if better:
        taken = min(better, key=lambda t: math.prod(t.ratios))
        taken.taken = True
        tuning.text = f"{taken.variant};{text}" if text else taken.variant
        for phase, ratio in zip(phases, taken.ratios, strict=True):
            phase.seconds *= ratio
    if lengths:
        tuning.chunks = time_chunks(engine, tuning.text, lengths, discarded, report)
        tuning.discarded = list(discarded.items())
        for chunk in tuning.chunks:
            if chunk.taken:
                tuning.text = with_chunk(tuning.text, chunk.rows)
    engine.set_tuning(tuning.text)
    return tuning


def _decide_kinds(
    engine: _core.Engine, phase: TunedPhase, reference: npt.NDArray[np.float32], discarded: dict[str, str], repeats: int
) -> None:
    """Time whole steps of the default and of the kinds' choices in turn, and take the faster."""
    texts = [""]
    if candidate := combine(phase.name, phase.choices):
        try:
            engine.set_tuning(candidate)
            _check(engine, phase.rows, reference)
            texts.append(candidate)
        except (DeviceError, InputError, MismatchError) as error:
            discard(discarded, candidate, error)
    medians = _in_turn(engine, [phase.rows], texts, repeats, 0.1)[0]
    phase.default_seconds = medians[0]
    faster = len(texts) == 2 and medians[1] < _STEP_MARGIN * medians[0]
    phase.text, phase.seconds = (texts[1], medians[1]) if faster else ("", medians[0])


def _time_whole(
    engine: _core.Engine,
    variant: str,
    text: str,
    references: dict[int, npt.NDArray[np.float32]],
    discarded: dict[str, str],
    repeats: int,
    warm_seconds: float,
) -> WholeVariant | None:
    """Time each step with a variant of the whole model on top of the kinds' choices, and without it; None if it is discarded."""
    both = f"{variant};{text}" if text else variant
    try:
        engine.set_tuning(both)
        for rows, reference in references.items():
            _check(engine, rows, reference)
        medians = _in_turn(engine, list(references), [text, both], repeats, max(0.1, warm_seconds))
    except (DeviceError, InputError, MismatchError) as error:
        discard(discarded, variant, error)
        return None
    return WholeVariant(variant, [with_it / without for without, with_it in medians])


def _in_turn(
    engine: _core.Engine, shapes: Sequence[int], texts: Sequence[str], repeats: int, warm_seconds: float
) -> list[list[float]]:
    """Seconds of a step of each shape with each text: medians of rounds that take the texts forth and back."""
    seconds: list[list[list[float]]] = [[[] for _ in texts] for _ in shapes]
    order = list(range(len(texts)))
    for _ in range(_ROUNDS):
        for i in order:
            engine.set_tuning(texts[i])
            for rows, times in zip(shapes, seconds, strict=True):
                times[i].append(_step_seconds(engine, rows, repeats, warm_seconds))
        order.reverse()  # a text that the model is loaded anew for serves twice
    return [[statistics.median(times) for times in of_shape] for of_shape in seconds]


def _step_seconds(engine: _core.Engine, rows: int, repeats: int, warm_seconds: float) -> float:
    return engine.profile(rows, 1, repeats, warm_seconds)["step_seconds"]


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
    check_logits(_logits(engine, rows), reference)


def _is_of_kinds(engine: _core.Engine, variant: str) -> bool:
    """Whether single kinds of ops can have the variant; else it is one of the whole model."""
    try:
        engine.set_tuning(f"decode/any:{variant}")
    except InputError:
        return False
    return True
