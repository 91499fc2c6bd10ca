"""Weights in other layouts than the file's (Tuning's `layout`): the same logits, for every type and kind of kernel that reads them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import webgpu_devices

from rwkvnative import _core
from rwkvnative.bench.random_model import Size, TensorTypes, small_random_model
from rwkvnative.errors import InputError

# Together all types, each where it can be: embedding, matrices, head, LoRAs, the decay's LoRA. A vocabulary of 300 rows is no multiple
# of 8, so the head is transposed where the others are tiled.
TYPES = {
    "three bits": TensorTypes("Q4_K", "Q3_K", "Q6_K", "F16", "F32"),
    "four bits": TensorTypes("Q8_0", "Q4_K", "IQ4_XS", "Q8_0", "BF16"),
    "five bits": TensorTypes("F16", "Q5_0", "Q5_K", "Q5_1", "Q4_0"),
    "two bits": TensorTypes("IQ4_NL", "Q2_K", "IQ4_NL", "Q4_1", "F16"),
}
RANKS = (32, 32, 32, 64)


def engine_of(types: TensorTypes, max_device_memory: int = 0, n_layer: int = 1) -> _core.Engine:
    model = small_random_model(Size(n_layer, 256, RANKS, n_vocab=300), types)
    return _core.Engine(
        "rwkv7", model.config, model.tensors, model.data, webgpu_devices.require("llvmpipe"), 0, "auto", None,
        max_device_memory=max_device_memory,
    )  # fmt: skip


def logits(engine: _core.Engine, n_rows: int = 1) -> np.ndarray:
    """float32 [2, V]: after two tokens one by one, or two prompts of n_rows tokens."""
    state = engine.new_state()
    return np.stack([engine.forward(np.arange(5, 5 + n_rows, dtype=np.int32), state, state, "last") for _ in range(2)])


def distance(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / np.std(expected))


@pytest.mark.parametrize(("types", "layout"), [("three bits", 0), ("four bits", 8), ("five bits", 8), ("two bits", 0)])
def test_every_type(types, layout):
    engine = engine_of(TYPES[types])
    expected = logits(engine)
    state = engine.new_state()
    engine.forward(np.array([5], np.int32), None, state, "last")
    engine.set_tuning(f"layout={layout}")
    # int8 activations may move by a step where a sum's order changes; a wrong row or plane is off by about 1.
    assert distance(logits(engine), expected) < 0.02
    after = engine.forward(np.array([5], np.int32), state, state, "last")
    assert distance(after, expected[1]) < 0.02  # a state outlives the reload


@pytest.mark.parametrize("constants", ["matmat=1", "matmat=4,matmat_rows=2"])
def test_prompts(constants):
    """A mat-vec for several rows of activations, and tiles in float32."""
    engine = engine_of(TYPES["three bits"])
    engine.set_tuning(constants)
    expected = logits(engine, 3)
    engine.set_tuning(f"{constants},layout=8")
    assert distance(logits(engine, 3), expected) < 0.02


def test_streamed_weights(monkeypatch):
    """Layers that go to the device from host memory."""
    types = TYPES["four bits"]
    expected = logits(engine_of(types, n_layer=4))
    with pytest.raises(InputError, match="at least") as error:
        engine_of(types, 1, 4)
    least = int(re.search(r"at least (\d+)", str(error.value))[1])
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_TUNING", "layout=8")
    engine = engine_of(types, least, 4)
    assert engine.info["streamed_bytes"] > 0 and engine.info["host_bytes"] > 0
    assert distance(logits(engine), expected) < 0.02


def test_what_is_no_layout():
    engine = engine_of(TYPES["three bits"])
    for text in ("layout=3", "layout=512", "decode/head:layout=8"):
        with pytest.raises(InputError, match="layout"):
            engine.set_tuning(text)
