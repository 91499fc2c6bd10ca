"""The public Model and State on whole GGUF files, against the oracle that reads the same file."""

from __future__ import annotations

import numpy as np
import pytest
import rwkvnative
from engines import f32_bound, random_tokens, row_errors
from oracle import Oracle
from rwkvnative import Model, State
from synthetic import make_model


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "q4_k_m.gguf"
    make_model(path, n_embd=256, n_layer=3, type="Q4_K", head_type="Q6_K", lora_type="F16", n_unused=8, seed=41)
    return path


@pytest.fixture
def model(path, device):
    with Model(path, device=device, n_threads=2, numerics="f32") as model:
        yield model


def test_logits_of_a_file(path, model, device):
    tokens = random_tokens(50)
    expected, _ = Oracle(path).forward(tokens)
    logits, state = model.forward(tokens.tolist(), all_logits=True)
    assert logits.dtype == np.float32 and logits.shape == (50, 300)
    assert row_errors(logits, expected).max() <= f32_bound(device)
    last, _ = model.forward(tokens)
    assert last.shape == (300,)
    assert row_errors(last[None], expected[-1:]).max() <= f32_bound(device)


def test_auto_numerics_stay_near(path, device):
    """What a user gets without asking; the bound is that of int8 activations (tests/test_parity.py)."""
    tokens = random_tokens(60)
    expected, _ = Oracle(path).forward(tokens)
    with Model(path, device=device) as model:
        logits, _ = model.forward(tokens, all_logits=True)
    assert np.median(row_errors(logits, expected)) <= 0.02


@pytest.mark.parametrize("chunk", [1, 2, 3, 16, 17, 64])
def test_chunks_through_the_public_state(path, model, device, chunk):
    tokens = random_tokens(70, seed=3)
    expected, _ = Oracle(path).forward(tokens)
    state, rows = None, []
    for part in np.split(tokens, range(chunk, len(tokens), chunk)):
        logits, state = model.forward(part, state, all_logits=True)
        rows.append(logits)
    assert row_errors(np.concatenate(rows), expected).max() <= f32_bound(device)


def test_layers_of_numpy_are_the_oracles(path, model, device):
    tokens = random_tokens(20)
    _, expected = Oracle(path).forward(tokens)
    _, state = model.forward(tokens)
    layers = state.numpy()
    assert len(layers) == 3
    for i, layer in enumerate(layers):
        for name in ("att_shift", "ffn_shift", "wkv"):
            got, want = getattr(layer, name), expected[name][i]
            assert got.shape == want.shape and got.dtype == np.float32
            assert np.abs(got - want).max() <= f32_bound(device) * np.abs(want).max(), (i, name)


def test_state_survives_numpy_and_file(tmp_path, path, model, device):
    _, state = model.forward(random_tokens(20))
    following = random_tokens(5, seed=1)
    expected, _ = model.forward(following, state)
    state.save(tmp_path / "state.safetensors")
    with Model(path, device=device, n_threads=2, numerics="f32") as reopened:
        for restored in (State.from_numpy(state.numpy(), reopened), State.load(tmp_path / "state.safetensors"), state.copy()):
            logits, _ = reopened.forward(following, restored)
            assert np.array_equal(logits, expected)


def test_state_of_another_model_is_refused(tmp_path, model, device):
    """Same shapes, other weights: nothing but the fingerprint can tell."""
    make_model(tmp_path / "other.gguf", n_embd=256, n_layer=3, type="Q4_K", head_type="Q6_K", lora_type="F16", seed=42)
    with Model(tmp_path / "other.gguf", device=device) as other:
        _, state = other.forward([1, 2, 3])
        with pytest.raises(rwkvnative.InputError):
            model.forward([1], state)


def test_embed_is_the_oracles_hidden_vector(path, model, device):
    tokens = random_tokens(9)
    expected, _ = Oracle(path).hidden(tokens)
    vector = model.embed(tokens.tolist(), normalize=False)
    assert vector.shape == (256,)
    assert row_errors(vector[None], expected[-1:]).max() <= f32_bound(device)


def test_official_fixture_as_a_file(official, device):
    """The path a user takes, with the official package's numbers at its end."""
    path, numbers = official
    with Model(path, device=device, numerics="f32") as model:
        logits, state = model.forward(numbers["tokens"], all_logits=True)
        assert row_errors(logits, numbers["logits"]).max() <= f32_bound(device)
        for i, layer in enumerate(state.numpy()):
            assert np.abs(layer.wkv - numbers["wkv"][i]).max() <= f32_bound(device) * np.abs(numbers["wkv"]).max()
