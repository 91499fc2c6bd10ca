"""The embedded model on a software GPU (webgpu_devices.py), through the public interface."""

from __future__ import annotations

import os

import pytest
import webgpu_devices
from engines import assert_states_close, tokens_of

from rwkvnative import Model, _core


@pytest.fixture(scope="module")
def lavapipe() -> str:
    return webgpu_devices.require("llvmpipe")


@pytest.fixture(scope="module")
def gpu(lavapipe):
    with Model(device=lavapipe, numerics="f32") as model:
        yield model


def test_the_same_story_as_on_the_cpu(gpu):
    """Longer than a flight of tickets, shorter than a software GPU's patience; 500 tokens: RWKVNATIVE_TEST_TOKENS=500."""
    options = {"max_tokens": int(os.environ.get("RWKVNATIVE_TEST_TOKENS", "60")), "temperature": 0}
    with Model(device="cpu", numerics="f32") as cpu:
        expected = cpu.generate("Once upon a time", **options)
    assert gpu.generate("Once upon a time", **options).tokens == expected.tokens


def test_greedy_that_is_stopped_leaves_the_state_of_what_was_seen(gpu):
    """Tokens past the end are already under way on the device when the caller stops."""
    engine = gpu._engine
    states = [engine.new_state() for _ in range(3)]
    all_tokens = engine.greedy(7, states[0], 9, tokens_of([]), None)
    seen: list[int] = []
    got = engine.greedy(7, states[1], 9, tokens_of([]), lambda token: seen.append(token) or len(seen) < 4)
    assert got == seen == all_tokens[:4]
    for token in [7, *all_tokens[:3]]:
        engine.forward(tokens_of([token]), states[2], states[2], "none")
    assert_states_close(states[1].read(), states[2].read(), 1e-5)  # the same steps, but a readout more or less


def test_a_callback_that_raises_leaves_the_state_of_what_was_seen(gpu):
    engine = gpu._engine
    states = [engine.new_state() for _ in range(2)]
    first = engine.greedy(7, states[0], 1, tokens_of([]), None)

    def refuse(token: int) -> bool:
        raise RuntimeError(str(token))

    with pytest.raises(RuntimeError, match=str(first[0])):
        engine.greedy(7, states[1], 9, tokens_of([]), refuse)
    assert_states_close(states[1].read(), states[0].read(), 0)


def test_auto_never_picks_a_software_adapter(lavapipe):
    if any(d["backend"] == "webgpu" and d["kind"] != "software" for d in _core.devices()):
        pytest.skip("this machine has a GPU")
    with Model() as model:
        assert model.device == "cpu"
