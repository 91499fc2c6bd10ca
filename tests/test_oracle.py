"""The numpy oracle against the official `rwkv` package (committed numbers), and against itself."""

from __future__ import annotations

import numpy as np
import pytest
import synthetic
from oracle import Oracle, l2_normalize, layer_norm, round_to_int8, sigmoid

# The package ran in float32 (24-bit significand, 6e-8 per operation) and writes exp(-0.5) as 0.606531 (off by 6e-7
# relative); dot products of up to 256 terms and 48 recurrent steps bring that to 9e-7 of the largest value here. 5e-6
# leaves room for rounding alone: the next test shows that a change of one per cent in any small tensor is seen.
OFFICIAL_BOUND = 5e-6


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def test_logits_and_state_of_the_official_package(official):
    path, numbers = official
    logits, state = Oracle(path).forward(numbers["tokens"])
    assert logits.shape == numbers["logits"].shape
    assert relative_error(logits, numbers["logits"]) < OFFICIAL_BOUND
    for name, values in state.items():
        assert values.shape == numbers[name].shape
        assert relative_error(values, numbers[name]) < OFFICIAL_BOUND, name


def test_state_between_the_official_modes(official):
    """The package's state after its sequence mode continues to its one-token results."""
    path, numbers = official
    n = int(numbers["n_prefill"])
    oracle = Oracle(path)
    _, state = oracle.forward(numbers["tokens"][:n])
    official_state = {name: numbers["prefill_" + name] for name in state}
    for name, values in state.items():
        assert relative_error(values, official_state[name]) < OFFICIAL_BOUND, name
    logits, _ = oracle.forward(numbers["tokens"][n:], official_state)
    assert relative_error(logits, numbers["logits"][n:]) < OFFICIAL_BOUND


@pytest.mark.parametrize("name", ["w0", "a0", "v0", "k_k", "k_a", "r_k", "ln", "lerp_fused", "w1", "g2", "value"])
def test_the_official_bound_sees_a_small_change(official, name):
    """A bound that no mistake can break would be no test: one per cent on any one tensor of block 1 breaks it."""
    path, numbers = official
    oracle = Oracle(path)
    weight = oracle.weights[f"blk.1.time_mix_{name}.weight"]
    weight *= 1 + 0.01 * np.random.default_rng(0).choice([-1, 1], weight.shape)  # k_k is normalized: not one factor
    logits, _ = oracle.forward(numbers["tokens"])
    assert relative_error(logits, numbers["logits"]) > OFFICIAL_BOUND


def test_chunks_equal_one_call():
    """float64: the same operations, except that BLAS may sum a row of another height in another order."""
    oracle = Oracle.from_model(synthetic.build_model(n_embd=48, head_size=16, n_layer=3, seed=1))
    tokens = np.random.default_rng(0).integers(0, 300, 23)
    whole, end = oracle.forward(tokens)
    state, rows = None, []
    for chunk in np.split(tokens, [1, 3, 10]):
        logits, state = oracle.forward(chunk, state)
        rows.append(logits)
    assert relative_error(np.concatenate(rows), whole) < 1e-12
    for name in end:
        assert relative_error(state[name], end[name]) < 1e-12


def test_forward_leaves_its_input_state():
    oracle = Oracle.from_model(synthetic.build_model())
    _, state = oracle.forward([1, 2, 3])
    before = {name: values.copy() for name, values in state.items()}
    oracle.forward([4, 5], state)
    for name, values in state.items():
        assert np.array_equal(values, before[name])


@pytest.mark.parametrize("type_name", synthetic.ALL_TYPES)
def test_file_and_memory_are_the_same_model(tmp_path, type_name):
    model = synthetic.make_model(tmp_path / "m.gguf", n_embd=256, n_layer=1, type=type_name, lora_type="F16")
    from_file, from_memory = Oracle(tmp_path / "m.gguf"), Oracle.from_model(model)
    assert from_file.config == from_memory.config
    assert from_file.weights.keys() == from_memory.weights.keys()
    for name, values in from_file.weights.items():
        assert np.array_equal(values, from_memory.weights[name]), name
        assert np.isfinite(values).all(), name


@pytest.mark.parametrize("type_name", synthetic.ALL_TYPES)
def test_synthetic_models_behave(type_name):
    """Logits of order one to ten and a bounded state after 300 tokens, for every type."""
    oracle = Oracle.from_model(synthetic.build_model(n_embd=256, type=type_name))
    logits, state = oracle.forward(np.random.default_rng(0).integers(0, 300, 300))
    assert 0.5 < logits.std() < 5
    assert np.abs(state["wkv"]).max() < 200
    assert logits.std(axis=0).mean() > 0.5  # and they depend on the token


def test_small_formulas():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert np.allclose(l2_normalize(x), [[0.6, 0.8], [0, 0]], atol=1e-15)
    assert np.allclose(layer_norm(np.array([1.0, 3.0]), 2.0, 1.0, 0.0), [-1, 3])
    assert sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0, 0.5, 1]


def test_round_to_int8():
    x = np.concatenate([np.linspace(-1, 1, 32), np.zeros(32), [127.0] + [0.4] * 31])[None]
    rounded = round_to_int8(x)
    assert np.abs(rounded - x)[0, :32].max() <= 0.5 / 127 + 1e-12
    assert (rounded[0, 32:64] == 0).all()
    assert rounded[0, 64:].tolist() == [127] + [0] * 31


def test_read_model_is_the_inverse_of_write_model(tmp_path):
    model = synthetic.make_model(tmp_path / "m.gguf", n_embd=96, head_size=32, n_layer=3, type="Q8_0", lora_type="F16")
    again = synthetic.read_model(tmp_path / "m.gguf")
    assert again.shape.ranks == model.shape.ranks and again.shape.n_ff == model.shape.n_ff
    assert again.tensors.keys() == model.tensors.keys()
    for name, t in model.tensors.items():
        assert (again.tensors[name].ne, again.tensors[name].ggml_type) == (t.ne, t.ggml_type)
        assert np.array_equal(again.tensors[name].data, t.data)
