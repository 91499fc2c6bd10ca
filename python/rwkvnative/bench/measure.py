"""Timing tests on an opened model: warm up until the clocks are steady, then repeat."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import _core
from ..errors import InputError
from ..sampling.candidates import not_usable
from .subject import Subject, Work

__all__ = ["Test", "run_test", "tests", "warm_up"]

LEAST_WARM, MOST_WARM = 0.5, 4.0  # seconds
MOST_TOKENS = 1 << 24  # of one test: days, on any device
_STEADY = 0.03  # how much faster a burst may be than the best before it, and the clocks still count as steady
_NO_TOKENS = np.zeros(0, np.int32)


@dataclass(frozen=True)
class Test:
    """`kind` "prefill": one prompt of n tokens. "decode": n tokens after each other, of `batch` sequences at once."""

    kind: str
    n: int
    batch: int = 1

    @property
    def label(self) -> str:
        """As llama-bench names them: pp512, tg128; tg128 b8 for a batch of 8."""
        if self.kind == "prefill":
            return f"pp{self.n}"
        return f"tg{self.n}" if self.batch == 1 else f"tg{self.n} b{self.batch}"

    @property
    def n_tokens(self) -> int:
        return self.n * self.batch

    def work(self, subject: Subject) -> Work:
        """The least bytes and operations of the whole test: one step for each token of decoding, for each chunk of a prompt."""
        if self.kind == "decode":
            step = subject.work(self.batch, self.batch)
            return Work(step.n_bytes * self.n, step.n_operations * self.n)
        rows = subject.engine.info["prefill_rows"]
        chunks = [min(rows, self.n - begin) for begin in range(0, self.n, rows)]
        steps = [subject.work(chunk, 1) for chunk in chunks]
        return Work(sum(s.n_bytes for s in steps), sum(s.n_operations for s in steps))


def tests(prompts: list[int], generates: list[int], batches: list[int]) -> list[Test]:
    """Every prompt length, then every number of new tokens at every batch size; 0 leaves a kind out.

    InputError for a negative number or one past `MOST_TOKENS`, a batch of 0, or nothing to do.
    """
    for name, values, least in (("-p", prompts, 0), ("-n", generates, 0), ("-b", batches, 1)):
        for value in values:
            if not least <= value <= MOST_TOKENS:
                raise InputError(f"[bench] {name}: expected whole numbers from {least} up to {MOST_TOKENS}, got {value}")
    chosen = [Test("prefill", n) for n in prompts if n] + [Test("decode", n, b) for n in generates if n for b in batches]
    if not chosen:
        raise InputError("[bench] nothing to measure: -p and -n are both 0")
    return chosen


def runner(engine: _core.Engine, test: Test) -> Callable[[], None]:
    """A function that runs the test once, on states that it keeps. It raises RwkvError for logits that are not finite."""
    n_vocab = engine.info["n_vocab"]
    if test.batch > 1:
        return _batch_runner(engine, test)
    state = engine.new_state()
    prompt = ((1 + np.arange(test.n, dtype=np.int64) * 7919) % n_vocab).astype(np.int32)

    def prefill() -> None:
        engine.forward(prompt, None, state, "last")

    def decode() -> None:
        if len(engine.greedy(1, state, test.n, _NO_TOKENS)) < test.n:  # less work than is counted
            raise not_usable()

    return prefill if test.kind == "prefill" else decode


def _batch_runner(engine: _core.Engine, test: Test) -> Callable[[], None]:
    most = engine.info["max_batch"]
    if test.batch > most:
        raise InputError(f"[bench] -b {test.batch}: this device decodes at most {most} sequences at once")
    states = [engine.new_state() for _ in range(test.batch)]
    first = (1 + np.arange(test.batch, dtype=np.int32) * 7) % engine.info["n_vocab"]

    def decode() -> None:
        engine.greedy_batch(first, states, test.n)

    return decode


def warm_up(run: Callable[[], None], least: float = LEAST_WARM, most: float = MOST_WARM) -> float:
    """Run until `least` seconds have passed and three runs in a row were not faster than the ones before: a GPU at rest starts
    at a fraction of its clock. Gives up after `most` seconds. Returns the seconds of the fastest run."""
    begin = time.perf_counter()
    best, steady = float("inf"), 0
    while True:
        start = time.perf_counter()
        run()
        end = time.perf_counter()
        steady = steady + 1 if end - start > (1 - _STEADY) * best else 0
        best = min(best, end - start)
        if end - begin >= most or (end - begin >= least and steady >= 3):
            return best


def run_test(engine: _core.Engine, test: Test, repetitions: int, least_warm: float = LEAST_WARM) -> list[float]:
    """Seconds of each repetition, after warming up."""
    run = runner(engine, test)
    warm_up(run, least_warm, max(least_warm, MOST_WARM if least_warm else 0.0))
    return [time_once(run) for _ in range(repetitions)]


def time_once(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
