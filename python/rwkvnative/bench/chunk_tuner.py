"""Finds the length of the chunks that a prompt is read in.

A longer chunk reads the weights less often and fills the device better, and takes more memory. The backend offers lengths whose
memory is bounded and that fit beside the weights. Each reads whole chunks of one prompt, long enough for all of them; the
lengths take turns, and the median of tokens/s counts. One that fails, does not fit after all, or gives other logits than the
default is discarded.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .. import _core
from ..errors import DeviceError, InputError
from .tuning_checks import MismatchError, check_logits, discard

__all__ = ["TimedChunk", "time_chunks", "with_chunk"]

_MARGIN = 0.97  # how much faster than the default a length must be to be taken
_ROUNDS = 3
_NEAR_BEST = 0.9  # what is slower than this share of the best after a round goes no further
_ROUND_SECONDS = 0.3  # of timed runs of a length in a round; at least one


@dataclass
class TimedChunk:
    """A chunk length in tokens. `scratch_bytes`: memory of all that reads a prompt so, beside weights and states."""

    rows: int
    is_default: bool
    tokens_per_second: float = 0.0
    scratch_bytes: int = 0
    taken: bool = False
    rates: list[float] = field(default_factory=list, repr=False)
    """Tokens/s of each run."""


def with_chunk(text: str, rows: int) -> str:
    """The text for ``_core.Engine.set_tuning`` with a chunk length added."""
    return f"{text};prefill_rows={rows}" if text else f"prefill_rows={rows}"


def time_chunks(
    engine: _core.Engine,
    text: str,
    lengths: Sequence[int],
    discarded: dict[str, str],
    report: Callable[[], object] = lambda: None,
) -> list[TimedChunk]:
    """Time the default and these lengths, with the other constants of `text`; at most one is `taken`, if it beats the default.

    report: called before each length is timed for the first time. The engine is left with any of the lengths.
    """
    engine.set_tuning(text)
    default = TimedChunk(engine.info["prefill_rows"], True)
    timed = [default, *(TimedChunk(n, False) for n in lengths if n != default.rows)]
    longest = max(chunk.rows for chunk in timed)
    prompt = _prompt(longest, engine.info["n_vocab"])
    whole = {chunk.rows: prompt[: longest // chunk.rows * chunk.rows] for chunk in timed}
    references: dict[int, npt.NDArray[np.float32]] = {}
    for tokens in whole.values():
        if len(tokens) not in references:
            references[len(tokens)] = _read(engine, tokens)[1]

    left = list(timed)
    for i in range(_ROUNDS):
        for chunk in list(left):
            if i == 0:
                report()
            tokens = whole[chunk.rows]
            try:
                engine.set_tuning(text if chunk.is_default else with_chunk(text, chunk.rows))
                _time(engine, chunk, tokens, references[len(tokens)])
            except (DeviceError, InputError, MismatchError) as error:
                if chunk.is_default:
                    raise
                discard(discarded, with_chunk("", chunk.rows), error)
                left.remove(chunk)
                timed.remove(chunk)
        best = max(chunk.tokens_per_second for chunk in left)
        left = [chunk for chunk in left if chunk.is_default or chunk.tokens_per_second >= _NEAR_BEST * best]
        left.reverse()  # forth and back
        if left == [default]:
            break
    fastest = max(left, key=lambda chunk: chunk.tokens_per_second)
    fastest.taken = not fastest.is_default and default.tokens_per_second < _MARGIN * fastest.tokens_per_second
    return sorted(timed, key=lambda chunk: chunk.rows)


def _time(engine: _core.Engine, chunk: TimedChunk, tokens: npt.NDArray[np.int32], reference: npt.NDArray[np.float32]) -> None:
    # Untimed: what compiles, and touches memory for the first time. The end of a prompt has a Program of its own.
    _read(engine, tokens[: 2 * chunk.rows])
    spent = 0.0
    while True:
        seconds, logits = _read(engine, tokens)
        check_logits(logits, reference)
        chunk.rates.append(len(tokens) / seconds)
        spent += seconds
        if spent >= _ROUND_SECONDS:
            break
    chunk.tokens_per_second = statistics.median(chunk.rates)
    chunk.scratch_bytes = engine.info["scratch_bytes"]


def _read(engine: _core.Engine, tokens: npt.NDArray[np.int32]) -> tuple[float, npt.NDArray[np.float32]]:
    """Seconds that a prompt takes, and the logits after it, float32 [V]."""
    state = engine.new_state()
    # Untimed, a token alone: what it pushes out of the engine's memory is compiled anew for the next prompt, and that counts.
    engine.forward(tokens[:1], None, state, "last")
    start = time.perf_counter()
    logits = engine.forward(tokens, None, state, "last")
    return time.perf_counter() - start, logits


def _prompt(n: int, n_vocab: int) -> npt.NDArray[np.int32]:
    return ((1 + np.arange(n, dtype=np.int64) * 7919) % n_vocab).astype(np.int32)
