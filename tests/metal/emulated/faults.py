"""What goes wrong on a device is an exception that says so; afterwards nothing is lost or left over."""

from __future__ import annotations

import os

import numpy as np
import pytest
from engines import open_engine, tokens_of
from synthetic import build_model

from rwkvnative import _core
from rwkvnative.errors import DeviceError, InputError

DEVICE = os.environ.get("SOFT_METAL_DEVICE", "apple")
USABLE = DEVICE in ("apple", "ssh")
REASONS = {"none": "no Metal device", "intel": "not an Apple GPU", "macos 12": "which macOS 13 brings"}
apple_only = pytest.mark.skipif(not USABLE, reason="of the device that the kernels run on")
MODEL = dict(n_embd=64, n_layer=1, type="F32", seed=1)

# MTLCommandBufferError of Metal's documentation, and what the message must name.
CODES = {2: "too long", 3: "outside of its memory", 4: "took the GPU away", 7: "not permit", 8: "out of memory"}


@apple_only
@pytest.mark.parametrize("code", CODES)
def test_command_buffer_errors(soft, code):
    engine = open_engine(build_model(**MODEL), "metal")
    state = engine.new_state()
    expected = engine.forward(tokens_of([1, 2]), None, state, "last")
    soft.fail_command_buffer(1, code)
    with pytest.raises(DeviceError, match=CODES[code]):
        engine.forward(tokens_of([1, 2]), None, state, "last")
    # The device works on: the next submit is right.
    assert np.array_equal(engine.forward(tokens_of([1, 2]), None, state, "last"), expected)


@apple_only
def test_an_error_names_the_kernel(soft, monkeypatch):
    """Where each dispatch has an encoder of its own; the results are the same."""
    engine = open_engine(build_model(**MODEL), "metal")
    expected = engine.forward(tokens_of([1, 2]), None, engine.new_state(), "last")
    soft.fail_command_buffer(1, 2)
    with pytest.raises(DeviceError, match="RWKVNATIVE_METAL_TRACE=1 names the kernel"):
        engine.forward(tokens_of([1, 2]), None, engine.new_state(), "last")
    monkeypatch.setenv("RWKVNATIVE_METAL_TRACE", "1")
    engine = open_engine(build_model(**MODEL), "metal")
    state = engine.new_state()
    assert np.array_equal(engine.forward(tokens_of([1, 2]), None, state, "last"), expected)
    soft.fail_command_buffer(1, 2)
    with pytest.raises(DeviceError, match=r"too long.*; in \w.* of layer 0, kernel \w+ \w+$"):
        engine.forward(tokens_of([1]), None, state, "last")


@apple_only
def test_no_command_buffer_is_too_long(soft, monkeypatch):
    """macOS ends one that keeps the GPU for seconds: a prompt's work comes in several, cut where its operations become too many.
    The results are the same, and a failure of any of them is told."""
    model, tokens = build_model(**MODEL | {"n_layer": 2}), tokens_of(list(range(1, 21)))

    def run(tuning: str) -> tuple[np.ndarray, int]:
        """The logits, and how many command buffers they took: each is made to fail once."""
        monkeypatch.setenv("RWKVNATIVE_METAL_TUNING", tuning)
        engine = open_engine(model, "metal")
        state = engine.new_state()
        logits = engine.forward(tokens, None, state, "all")
        for n in range(1, 200):
            soft.fail_command_buffer(n, 2)
            try:
                again = engine.forward(tokens, None, state, "all")
            except DeviceError:
                continue
            soft.fail_command_buffer(0, 0)
            assert np.array_equal(again, logits)
            assert engine.profile(1, 1, 1, 0.0)["ops"]
            return logits, n - 1
        raise AssertionError("every command buffer fails")

    expected, n = run("")
    assert n == 1
    # A chunk is 128 tokens: times 150000 weights that is 40 million operations.
    few, n = run("megaoperations=10")
    assert 4 <= n <= 9 and np.array_equal(few, expected), n
    many, n = run("megaoperations=0")  # as many as there are dispatches with anything to compute
    assert n >= 20 and np.array_equal(many, expected), n


@apple_only
def test_error_in_a_flight_of_tickets(soft):
    engine = open_engine(build_model(**MODEL), "metal")
    state = engine.new_state()
    engine.forward(tokens_of([1]), None, state, "none")
    soft.fail_command_buffer(5, 2)
    with pytest.raises(DeviceError, match="too long"):
        engine.greedy(3, state, 30, [])


@apple_only
def test_no_memory(soft):
    """Whichever buffer it is that the device refuses. (The first ones wrap the model's own pages, and are copied instead.)"""
    model = build_model(**MODEL)
    errors = []
    for n in range(1, 100):
        soft.fail_allocation(n)
        engine = state = None
        try:
            engine = open_engine(model, "metal")
            state = engine.new_state()
            engine.forward(tokens_of([1, 2, 3]), None, state, "all")
        except DeviceError as error:
            errors.append(str(error))
        if not soft.allocation_failed():
            break
    assert 5 < n < 99
    assert len(errors) >= n - 3 and all("memory" in e for e in errors), errors


@apple_only
def test_unknown_device(soft):
    with pytest.raises((DeviceError, InputError), match='got "metal:7"'):
        open_engine(build_model(**MODEL), "metal:7")


@pytest.mark.skipif(USABLE, reason="of a machine without such a device")
def test_no_such_device(soft):
    assert "metal" not in [d["backend"] for d in _core.devices()]
    with pytest.raises(DeviceError, match=REASONS[DEVICE]):
        open_engine(build_model(**MODEL), "metal")


@apple_only
def test_ceilings(soft):
    """Measured by kernels of their own (their results: test_metal_kernels.py); nothing of them stays."""
    engine = open_engine(build_model(**MODEL), "metal")
    before = engine.info["device_bytes_used"]
    ceilings = engine.ceilings()
    assert ceilings.pop("int8_per_second") == 0  # Apple GPUs have no dot product of bytes
    assert all(value > 0 for value in ceilings.values()), ceilings
    assert engine.info["device_bytes_used"] == before
    for n in (1, 2):
        soft.fail_allocation(n)
        with pytest.raises(DeviceError, match="ceilings: .* memory"):
            engine.ceilings()
    soft.fail_command_buffer(3, 2)
    with pytest.raises(DeviceError, match="ceilings.*too long"):
        engine.ceilings()


@apple_only
def test_profile_fails(soft):
    """With tickets in flight too, of which none stays open: the same step runs again at once."""
    engine = open_engine(build_model(**MODEL), "metal")
    engine.profile(1, 1, 1, 0.0)
    for n in range(1, 8):  # the first alone, those of the warm-up, the timed ones
        soft.fail_command_buffer(n, 2)
        with pytest.raises(DeviceError, match="too long"):
            engine.profile(1, 1, 1, 0.0)
        engine.profile(1, 1, 1, 0.0)
