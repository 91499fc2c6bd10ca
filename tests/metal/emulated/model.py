"""The whole package on the software device: the embedded model as a user runs it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from engines import assert_same, open_engine, random_tokens, row_errors, run
from synthetic import build_model, make_model

from rwkvnative import Model, State

PROMPT = "Once upon a time, there was a little"


@pytest.fixture(scope="module")
def cpu():
    with Model(device="cpu", numerics="f32") as model:
        yield model


def test_embedded_model(soft, cpu, tmp_path):
    """Logits as the CPU's, the same greedy text, the state through bytes and back."""
    with Model(device="metal", numerics="f32") as metal:
        tokens = cpu.tokenizer.encode(PROMPT)
        expected, _ = cpu.forward(tokens, all_logits=True)
        logits, state = metal.forward(tokens, all_logits=True)
        assert row_errors(logits, expected).max() <= 2e-5  # float32 on both sides: emulated/ops.py
        text = metal.generate(PROMPT, max_tokens=10, temperature=0).text
        assert text == cpu.generate(PROMPT, max_tokens=10, temperature=0).text and len(text) > 10
        state.save(tmp_path / "state")
        again = State.load(tmp_path / "state", metal)
        one, _ = metal.forward(tokens[:1], state)
        other, _ = metal.forward(tokens[:1], again)
        assert np.array_equal(one, other)


def test_auto_numerics(soft, cpu):
    """What a user gets without asking."""
    tokens = cpu.tokenizer.encode(PROMPT)
    expected, _ = cpu.forward(tokens, all_logits=True)
    with Model(device="metal") as metal:
        logits, _ = metal.forward(tokens, all_logits=True)
    assert np.median(row_errors(logits, expected)) <= 0.02


def test_threads_on_one_engine(soft):
    """Each with its own state: the numbers that each gets alone."""
    engine = open_engine(build_model(n_embd=32, head_size=32, n_layer=1, n_vocab=37, seed=5), "metal")
    tokens = [random_tokens(n, 37, seed=n) for n in (9, 1, 6)]
    alone = [run(engine, t) for t in tokens]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda t: run(engine, t), 4 * tokens))
    for (logits, state), (expected, expected_state) in zip(together, 4 * alone):
        assert np.array_equal(logits, expected)
        assert_same(state, expected_state)


def test_profile_of_decoding(soft):
    """The dispatches' times are those of the step, though a dispatch (biases) has nothing to do and its encoder takes no samples."""
    engine = open_engine(build_model(n_embd=64, n_layer=2, seed=2), "metal")
    step = engine.profile(1, 1, 3, 0.0)
    assert step["timestamps"] and len(step["ops"]) > 10 and "add_bias" not in [op["label"] for op in step["ops"]]
    assert all(op["microseconds"] > 0 for op in step["ops"])
    assert 0.1 < sum(op["microseconds"] for op in step["ops"]) / (1e6 * step["alone_seconds"]) < 10


def test_auto_is_never_the_software_device(soft):
    with Model() as model:
        assert model.device != "metal:0"


def test_mapped_file_is_not_copied(soft, tmp_path):
    """The GGUF's own pages are the weights; a copy where switched off."""
    path = tmp_path / "model.gguf"
    make_model(path, n_embd=256, n_layer=2, type="Q4_K", seed=3)
    with Model(path, device="metal", numerics="f32") as metal, Model(path, device="cpu", numerics="f32") as reference:
        assert row_errors(metal.forward([1, 2, 3], all_logits=True)[0], reference.forward([1, 2, 3], all_logits=True)[0]).max() <= 2e-5
