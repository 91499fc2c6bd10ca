"""A device that has no memory again and again, in the middle of anything: a refused call leaves every state as it was, the next try gives
what a device with memory gives, bit for bit, and nothing stays behind that a later call stumbles over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import webgpu_devices
from engines import open_engine, tokens_of
from synthetic import build_model

from rwkvnative import _core
from rwkvnative.errors import DeviceError

N_VOCAB = 1100  # more than the candidates that the device sorts
TINY = dict(n_embd=32, head_size=16, n_layer=1, n_ff=64, n_vocab=N_VOCAB, ranks=(4, 4, 4, 8), type="Q8_0")
STATES = 4
NONE = tokens_of([])
NO_BIAS = np.empty(0, np.float32)

Parts = dict[str, np.ndarray]
Action = Callable[[_core.Engine, list[_core.State]], object]


def random_action(rng: np.random.Generator) -> tuple[str, Action]:
    """Its name, and what it does to some of the states; everything random is decided here, so that it can be done twice."""
    a, b, c, d = (int(i) for i in rng.permutation(STATES))
    token, n = int(rng.integers(N_VOCAB)), int(rng.integers(2, 20))
    tokens = rng.integers(N_VOCAB, size=n, dtype=np.int32)
    us = rng.random(5)
    some = [tokens[:1], tokens, tokens[: n // 2 + 1]]
    penalized = _core.Draw(top_p=0.9, presence=0.5)

    def renew(engine: _core.Engine, states: list[_core.State]) -> None:
        states[a] = engine.new_state()

    def copy(engine: _core.Engine, states: list[_core.State]) -> None:
        states[a] = states[b].copy()

    actions: dict[str, Action] = {
        "new": renew,
        "copy": copy,
        "write": lambda e, s: s[a].write(s[b].read()),
        "token": lambda e, s: e.forward(tokens[:1], s[a], s[a], "last"),
        "token from another": lambda e, s: e.forward(tokens[:1], s[b], s[a], "last"),
        "chunk": lambda e, s: e.forward(tokens, s[a], s[a], "all"),
        "all candidates": lambda e, s: e.candidates(tokens[:1], s[a], s[a], N_VOCAB, NONE, NO_BIAS),
        "greedy": lambda e, s: e.greedy(token, s[a], 6, NONE),
        "draw": lambda e, s: e.draw(token, s[a], us, penalized, None, NONE),
        "batch": lambda e, s: e.forward_batch(some, [s[a], s[d], s[d]], [s[a], s[b], s[c]]),
    }
    name = str(rng.choice(list(actions)))
    return name, actions[name]


def persist(use: Callable[[], object], on_refusal: Callable[[], None]) -> object:
    for _ in range(40):
        try:
            return use()
        except DeviceError as error:
            assert "a test asked for it" in str(error), error
        on_refusal()
    raise AssertionError("refused 40 times")


def same(got: object, expected: object) -> bool:
    if isinstance(expected, dict):
        return isinstance(got, dict) and all(same(got[k], v) for k, v in expected.items())
    if isinstance(expected, (list, tuple)):
        return isinstance(got, (list, tuple)) and len(got) == len(expected) and all(map(same, got, expected))
    return bool(np.array_equal(got, expected))  # type: ignore[arg-type]


def test_memory_runs_out_again_and_again(monkeypatch):
    lavapipe = webgpu_devices.require("llvmpipe")
    model = build_model(**TINY)
    healthy = open_engine(model, lavapipe, numerics="int8")
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_FAIL", "memory=60/37")
    poor = open_engine(model, lavapipe, numerics="int8")
    expected_states = [healthy.new_state() for _ in range(STATES)]
    states = [persist(poor.new_state, lambda: None) for _ in range(STATES)]
    rng = np.random.default_rng(0)
    refusals = 0
    for step in range(150):
        name, action = random_action(rng)
        before = [state.read() for state in expected_states]
        expected = action(healthy, expected_states)

        def refused() -> None:
            nonlocal refusals
            refusals += 1
            for state, was in zip(states, before):
                assert same(persist(state.read, lambda: None), was), (step, name)

        assert same(persist(lambda: action(poor, states), refused), expected), (step, name)
        one = step % STATES  # reading takes memory too, and what is refused should be the actions'
        assert same(persist(states[one].read, lambda: None), expected_states[one].read()), (step, name)
    assert refusals >= 10
