"""The WebGPU backend's states: slots of shared blocks (csrc/webgpu/state_arena.h), and the kernels that work on those of many
sequences and rows at once. Software GPUs, Dawn's validation on; against the float64 oracle and against itself.
"""

from __future__ import annotations

import functools

import numpy as np
import oracle
import pytest
import webgpu_devices
from engines import assert_same, assert_states_close, open_engine, random_tokens, row_errors, tokens_of
from synthetic import build_model

from rwkvnative import _core

F32_BOUND = 2e-3  # as in test_webgpu.py

# Small enough for a software GPU; two heads, and LoRA ranks that are no multiple of anything.
SMALL = dict(n_embd=64, head_size=32, n_layer=2, n_ff=96, n_vocab=61, ranks=(7, 5, 3, 11), seed=31)


@pytest.fixture(params=webgpu_devices.SOFTWARE)
def gpu(request, monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
    return webgpu_devices.require(request.param)


@pytest.fixture
def lavapipe(monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
    return webgpu_devices.require("llvmpipe")


@functools.cache
def small():
    return build_model(**SMALL)


@functools.cache
def expected(n_tokens: int, seed: int):
    """(tokens, logits, state) of the oracle."""
    tokens = random_tokens(n_tokens, seed=seed, n_vocab=SMALL["n_vocab"])
    return tokens, *oracle.Oracle.from_model(small()).forward(tokens)


def test_chunk_lengths(gpu):
    """From a fresh state and then from the state after it: lengths around those that the kernels stage and tile by."""
    engine = open_engine(small(), gpu)
    for n in (1, 2, 15, 16, 17, 63, 64, 65, 300):
        tokens, logits, state = expected(n, n)
        current = engine.new_state()
        last = engine.forward(tokens, None, current, "last")
        assert row_errors(last[None], logits[-1:]).max() <= F32_BOUND, n
        assert_states_close(current.read(), state, F32_BOUND)
    done, current = 0, engine.new_state()
    for n in (65, 1, 17, 1, 1, 64, 2, 149):  # one token a call takes the other kernels, and the state's other place
        last = engine.forward(tokens[done:done + n], current, current, "last")
        done += n
        assert row_errors(last[None], logits[done - 1:done]).max() <= F32_BOUND, done
    assert_states_close(current.read(), state, F32_BOUND)


@pytest.mark.parametrize("head_size, tuning", [(48, "wkv_tokens=3"), (64, "wkv_values=16,wkv_tokens=64")])
def test_head_sizes_and_tuning(lavapipe, monkeypatch, head_size, tuning):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_TUNING", tuning)
    if head_size == 48:
        monkeypatch.setenv("RWKVNATIVE_WEBGPU_DISABLE", "subgroups")
    model = build_model(**SMALL | dict(n_embd=2 * head_size, head_size=head_size, n_layer=2))
    tokens = random_tokens(21, seed=5, n_vocab=SMALL["n_vocab"])
    logits, state = oracle.Oracle.from_model(model).forward(tokens)
    engine = open_engine(model, lavapipe)
    current = engine.new_state()
    last = engine.forward(tokens, None, current, "last")
    assert row_errors(last[None], logits[-1:]).max() <= F32_BOUND
    assert_states_close(current.read(), state, F32_BOUND)


class Known:
    """A state on the device beside the tokens that it has seen; the states after single tokens are the oracle's."""

    def __init__(self, engine: _core.Engine, state: _core.State | None = None, seen: tuple[int, ...] = ()):
        self.engine, self.seen = engine, seen
        self.state = engine.new_state() if state is None else state

    def feed(self, *tokens: int) -> None:
        self.engine.forward(tokens_of(tokens), self.state, self.state, "none")
        self.seen += tokens

    def check(self) -> None:
        got = self.state.read()
        if not self.seen:
            assert all((part == 0).all() for part in got.values())
        else:
            assert_states_close(got, after(self.seen), F32_BOUND)


@functools.cache
def after(seen: tuple[int, ...]) -> oracle.State:
    return oracle.Oracle.from_model(small()).forward(np.array(seen, np.int32))[1]


@pytest.mark.parametrize("max_binding", ["", "65536"], ids=["one block", "blocks of seven"])
def test_states_come_and_go(lavapipe, monkeypatch, max_binding):
    """More than twenty states alive: blocks that grow, fill up, empty and shrink keep every one of them."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_MAX_BINDING", max_binding)
    engine = open_engine(small(), lavapipe)
    known = [Known(engine) for _ in range(3)]
    known[1].feed(5)
    known[2].feed(9, 9, 4)
    while len(known) < 24:
        source = known[len(known) % 3]
        known.append(Known(engine, source.state.copy(), source.seen))
    for i, k in enumerate(known):
        if i % 2:
            k.feed(i % 5)
    for k in known:
        k.check()
    del known[::3]  # holes, which the next ones fill
    del known[1]
    known += [Known(engine) for _ in range(5)]
    known[-1].check()  # zeros, whatever the place held before
    known[-1].feed(7, 7)
    known[-2].feed(7)
    known[0].state.write(known[1].state.read())
    known[0].seen = known[1].seen
    for k in known:
        k.check()
    del k
    known = known[-6:]  # few enough to shrink
    for k in known:
        k.check()
    known = known[-1:]
    known[0].feed(3, 1)
    known[0].check()


def test_a_state_is_forked_by_a_submit(lavapipe):
    """state_in stays as it was, state_out becomes the state after it; then the same again: a replay."""
    engine = open_engine(small(), lavapipe)
    root = Known(engine)
    root.feed(1, 2, 3)
    before = root.state.read()
    for _ in range(2):
        for tokens in ((4,), (4, 5), (6, 7, 8)):
            fork = engine.new_state()
            engine.forward(tokens_of(tokens), root.state, fork, "none")
            assert_states_close(fork.read(), after((1, 2, 3) + tokens), F32_BOUND)
            engine.forward(tokens_of(tokens), None, fork, "none")  # a fresh start over an old state
            assert_states_close(fork.read(), after(tokens), F32_BOUND)
    assert_same(root.state.read(), before)


def forward_batch(engine: _core.Engine, known: list[Known], tokens: list[tuple[int, ...]]) -> np.ndarray:
    """Logits [B, V] after `tokens` of each, in one call, the states in place."""
    states = [k.state for k in known]
    logits = engine.forward_batch([tokens_of(t) for t in tokens], states, states, "last")
    for k, t in zip(known, tokens, strict=True):
        k.seen += t
    return logits


def check_batch(known: list[Known], logits: np.ndarray) -> None:
    for k, row in zip(known, logits, strict=True):
        wanted, state = oracle.Oracle.from_model(small()).forward(np.array(k.seen, np.int32))
        assert row_errors(row[None], wanted[-1:]).max() <= F32_BOUND
        assert_states_close(k.state.read(), state, F32_BOUND)


LENGTHS = (1, 17, 2, 40, 1, 3, 16, 9)


def test_ragged_batches_and_crowds(gpu, monkeypatch):
    """All in one submit: lengths from one on, then a token for each, three times; holes in the blocks. On one GPU the states lie
    in one block, on the other in blocks of seven."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_MAX_BINDING", "65536" if "llvmpipe" in gpu else "")
    engine = open_engine(small(), gpu)
    known = [Known(engine) for _ in range(2 * len(LENGTHS))][::-2]  # every second place is free again
    known += [Known(engine) for _ in LENGTHS[:3]]
    rng = np.random.default_rng(3)
    draw = lambda n: tuple(int(t) for t in rng.integers(0, SMALL["n_vocab"], n))
    check_batch(known, forward_batch(engine, known, [draw(n) for n in LENGTHS + LENGTHS[:3]]))
    for _ in range(3):
        logits = forward_batch(engine, known, [draw(1) for _ in known])
    check_batch(known, logits)
    check_batch(known[2:7], forward_batch(engine, known[2:7], [draw(n) for n in (1, 5, 1, 20, 2)]))


def test_one_state_read_by_many(lavapipe, monkeypatch):
    """A prefix, its forks written to places in its own block and in others; twice: a replay."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_MAX_BINDING", "65536")
    engine = open_engine(small(), lavapipe)
    root = Known(engine)
    root.feed(1, 2, 3)
    before = root.state.read()
    forks = [engine.new_state() for _ in range(9)]
    results = []
    for tokens in [[(i,) for i in range(9)]] * 2 + [[(i, 4, i) for i in range(9)]] * 2:
        logits = engine.forward_batch([tokens_of(t) for t in tokens], [root.state] * 9, forks, "last")
        check_batch([Known(engine, state, root.seen + t) for state, t in zip(forks, tokens, strict=True)], logits)
        results.append((logits, [state.read() for state in forks]))
    for first, second in (results[:2], results[2:]):
        assert np.array_equal(first[0], second[0])
        for a, b in zip(first[1], second[1], strict=True):
            assert_same(a, b)
    assert_same(root.state.read(), before)


@pytest.mark.parametrize("lengths", [(1, 1, 1, 1), (5, 1, 17, 2)])
def test_company_changes_no_bit(lavapipe, lengths):
    """What comes of a sequence, when the others' tokens and states are different ones and it has another place among them."""
    engine = open_engine(small(), lavapipe)
    mine = tuple(range(lengths[0]))
    results = []
    for turn in range(2):
        known = [Known(engine) for _ in lengths]
        for i, k in enumerate(known[1:]):
            k.feed(*((7 + turn, i) if turn else (i,)))
        tokens = [mine] + [tuple((t + turn) % SMALL["n_vocab"] for t in range(n)) for n in lengths[1:]]
        order = slice(None, None, -1 if turn else 1)
        logits = forward_batch(engine, known[order], tokens[order])
        results.append((logits[-1 if turn else 0], known[0].state.read()))
    assert np.array_equal(results[0][0], results[1][0])
    assert_same(results[0][1], results[1][1])


def test_a_crowd_with_int8_activations(lavapipe):
    """Codes that the crowd's kernels write, against those of a sequence alone: a head size that is a whole number of blocks."""
    model = build_model(**SMALL | dict(type="Q8_0", n_ff=96))
    engine = open_engine(model, lavapipe, numerics="int8")
    tokens = random_tokens(12, seed=8, n_vocab=SMALL["n_vocab"]).reshape(4, 3)
    alone = [engine.new_state() for _ in tokens]
    crowd = [engine.new_state() for _ in tokens]
    for t in range(3):
        expected_logits = np.stack([engine.forward(tokens[i, t:t + 1], s, s, "last") for i, s in enumerate(alone)])
        got = engine.forward_batch([row[t:t + 1] for row in tokens], crowd, crowd, "last")
        # The same int8 products; float32 sums in another order may move a code by one.
        assert np.median(row_errors(got, expected_logits)) <= 5e-3
    for a, b in zip(alone, crowd, strict=True):
        assert_states_close(a.read(), b.read(), 2e-2)


@pytest.mark.parametrize("n_vocab, k, bias_value", [(5000, 512, 2.5), (700, 300, 1.0),
                                                    (5000, 40, -float("inf"))])
def test_candidates_of_a_crowd(lavapipe, n_vocab, k, bias_value):
    """Sequences whose logits differ, and one whose bias makes thousands of them equal, which are then told apart by their ids."""
    engine = open_engine(build_model(n_embd=64, head_size=32, n_layer=1, n_vocab=n_vocab, seed=24), lavapipe)
    tokens = [tokens_of([t]) for t in (5, 6, 9)]
    logits = engine.forward_batch(tokens, [None] * 3, [engine.new_state() for _ in tokens], "last")
    many = np.arange(1, n_vocab, 2 if n_vocab < 5000 or not np.isinf(bias_value) else 1, dtype=np.int32)
    biases = [None, (many, np.full(len(many), bias_value, np.float32)), (many[:9], np.linspace(-3, 3, 9, dtype=np.float32))]
    ids, values, log_sum_exps = engine.candidates_batch(tokens, [None] * 3, [engine.new_state() for _ in tokens], k, biases)
    for row, bias, got_ids, got_values, got_sum in zip(logits, biases, ids, values, log_sum_exps, strict=True):
        if bias is not None:
            row[bias[0]] += bias[1]
        order = np.lexsort((np.arange(n_vocab), -row))[:k]
        assert np.array_equal(got_ids, order)
        assert np.array_equal(got_values, row[order])
        wide = row.astype(np.float64)
        with np.errstate(invalid="ignore"):
            expected_sum = wide.max() + np.log(np.exp(wide - wide.max()).sum())
        assert abs(got_sum - expected_sum) < 1e-4 or not np.isfinite(expected_sum)
