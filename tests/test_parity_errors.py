"""Models whose tensors are missing, misshapen or of a wrong type: one InputError that says which, expected and got."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
from engines import config, open_engine, random_tokens, run
from gguf import GGMLQuantizationType as GgmlType
from rwkvnative import _core
from rwkvnative.errors import InputError, RwkvError
from synthetic import SyntheticModel, Tensor, build_model, encode, random_weights

BASE = build_model(n_embd=128, n_layer=2, type="Q8_0", n_vocab=270, seed=21)
UNUSED = {f"blk.0.time_mix_v{i}.weight" for i in "012"}
USED = [name for name in BASE.tensors if name not in UNUSED]


def changed(name: str, tensor: Tensor | None) -> SyntheticModel:
    model = copy.copy(BASE)
    model.tensors = {n: t for n, t in BASE.tensors.items() if n != name}
    if tensor is not None:
        model.tensors[name] = tensor
    return model


def refusal(model: SyntheticModel) -> str:
    with pytest.raises(InputError) as error:
        open_engine(model)
    return str(error.value)


def test_the_base_model_opens():
    assert run(open_engine(BASE), random_tokens(2, 270))[0].shape == (2, 270)


@pytest.mark.parametrize("name", USED)
def test_missing_tensor(name):
    message = refusal(changed(name, None))
    assert name in message and "missing" in message


@pytest.mark.parametrize("name", sorted(UNUSED))
def test_the_unused_tensors_of_block_0_may_be_missing_or_odd(name):
    odd = Tensor(name, GgmlType.F32, (5,), np.full(20, 255, np.uint8))  # NaN
    expected, _ = run(open_engine(BASE), random_tokens(5, 270))
    for tensor in (None, odd):
        got, _ = run(open_engine(changed(name, tensor)), random_tokens(5, 270))
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("name", USED)
def test_misshapen_tensor(name):
    """One more row, one row fewer, and (for a matrix) one 32-block more per row: shapes of valid tensors, of a wrong model."""
    tensor = BASE.tensors[name]
    block = 32 if tensor.ne[0] % 32 == 0 else 1
    grown = [(tensor.ne[0] + block, *tensor.ne[1:])]
    if len(tensor.ne) > 1:
        grown += [(*tensor.ne[:-1], tensor.ne[-1] + 1), (*tensor.ne[:-1], tensor.ne[-1] - 1)]
    for ne in grown:
        other = encode(name, np.zeros(ne[::-1], np.float32), tensor.ggml_type.name)
        message = refusal(changed(name, other))
        assert name in message
        for number in (tensor.ne[0], ne[0], *([tensor.ne[-1], ne[-1]] if len(ne) > 1 else [])):
            assert str(number) in message, (number, message)


@pytest.mark.parametrize("name", ["blk.1.time_mix_receptance.weight", "blk.0.channel_mix_key.weight", "output.weight"])
def test_transposed_or_flat_matrix(name):
    tensor = BASE.tensors[name]
    for ne in ((tensor.ne[0] * tensor.ne[1],), (tensor.ne[0], 1, 1, tensor.ne[1], 2)):
        data = np.zeros(int(np.prod(ne)) // 32 * 34, np.uint8)
        assert name in refusal(changed(name, Tensor(name, GgmlType.Q8_0, ne, data)))


@pytest.mark.parametrize("name", ["output_norm.weight", "blk.1.attn_norm.bias", "blk.0.time_mix_w0.weight",
                                  "blk.1.time_mix_k_k.weight", "blk.1.time_mix_lerp_fused.weight",
                                  "blk.0.channel_mix_lerp_k.weight", "blk.1.time_mix_ln.weight"])
@pytest.mark.parametrize("type_name", ["Q8_0", "Q4_0"])
def test_vectors_must_be_float(name, type_name):
    tensor = BASE.tensors[name]
    other = encode(name, np.ones(tensor.ne[::-1], np.float32), type_name)
    message = refusal(changed(name, other))
    assert name in message and "F32" in message and type_name in message


@pytest.mark.parametrize("number", [4, 5, 9, 16, 34, 39, 40, 255, 2**31, 2**32 - 1])
def test_type_that_the_engine_does_not_have(number):
    """9 is Q8_1, 16 IQ2_XXS, 34 TQ1_0, 39 MXFP4: real ones that we do not run; the others do not exist."""
    name = "blk.1.time_mix_key.weight"
    entries, data = BASE.packed()
    entries = [(n, number if n == name else t, *rest) for n, t, *rest in entries]
    with pytest.raises(InputError) as error:
        _core.Engine("rwkv7", config(BASE), entries, data, "cpu", 1, "auto", None)
    assert name in str(error.value) and str(number) in str(error.value)


WILD = [None, 0, -1, 2**31, 2**40, 1e300, float("nan"), float("inf")]
SIZES = ["n_layer", "n_embd", "n_ff", "head_size", "n_vocab", "decay_rank", "iclr_rank", "value_rank", "gate_rank"]


@pytest.mark.parametrize("key, value", [(key, value) for key in SIZES for value in [*WILD, 1.5]]
                         + [("layer_norm_epsilon", value) for value in (None, 0.0, -1e-5, float("nan"), float("inf"))])
def test_wild_hyper_parameters(key, value):
    entries, data = BASE.packed()
    hyper = {k: v for k, v in {**config(BASE), key: value}.items() if v is not None}
    with pytest.raises(InputError) as error:
        _core.Engine("rwkv7", hyper, entries, data, "cpu", 1, "auto", None)
    assert key in str(error.value)


@pytest.mark.parametrize("key, words", [("n_layer", ["blk.2.", "missing"]), ("n_embd", ["token_embd", "128", "192"]),
                                        ("n_ff", ["channel_mix", "512", "513"]), ("n_vocab", ["token_embd", "270", "271"]),
                                        ("decay_rank", ["time_mix_w1", "32", "33"]), ("gate_rank", ["time_mix_g1", "64", "65"])])
def test_hyper_parameters_that_contradict_the_tensors(key, words):
    entries, data = BASE.packed()
    hyper = config(BASE)
    hyper[key] += 64 if key == "n_embd" else 1
    with pytest.raises(InputError) as error:
        _core.Engine("rwkv7", hyper, entries, data, "cpu", 1, "auto", None)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("head_size", [1, 7, 8, 24, 100, 256, 1024])
def test_head_size_that_does_not_fit(head_size):
    model = dataclasses.replace(BASE)
    hyper = {**config(model), "head_size": head_size}
    entries, data = model.packed()
    with pytest.raises(InputError) as error:
        _core.Engine("rwkv7", hyper, entries, data, "cpu", 1, "auto", None)
    assert "head_size" in str(error.value) and str(head_size) in str(error.value)


@pytest.mark.parametrize("offset, n_bytes", [(-1, None), (2**63, None), (2**64 - 32, None), (None, 2**63), (None, 2**64 - 1),
                                             (10**9, None), (None, 10**9), (None, 1), (None, 0), (2, None)])
def test_tensors_outside_of_the_buffer(offset, n_bytes):
    """Offsets and sizes that leave the buffer, overflow, fall short of the shape, or are not aligned."""
    name = "blk.1.attn_norm.weight"
    entries, data = BASE.packed()
    entries = [(n, t, ne, o if n != name or offset is None else offset, b if n != name or n_bytes is None else n_bytes)
               for n, t, ne, o, b in entries]
    with pytest.raises((RwkvError, TypeError, OverflowError)) as error:
        _core.Engine("rwkv7", config(BASE), entries, data, "cpu", 1, "auto", None)
    if isinstance(error.value, RwkvError):
        assert name in str(error.value)


def test_duplicate_tensor():
    entries, data = BASE.packed()
    with pytest.raises(InputError) as error:
        _core.Engine("rwkv7", config(BASE), entries + entries[5:6], data, "cpu", 1, "auto", None)
    assert entries[5][0] in str(error.value)


def test_unknown_names():
    entries, data = BASE.packed()
    for arguments, word in ((("rwkv9", config(BASE), entries, data, "cpu", 1, "auto", None), "rwkv9"),
                            (("rwkv7", config(BASE), entries, data, "gpu:77", 1, "auto", None), "gpu:77"),
                            (("rwkv7", config(BASE), entries, data, "cpu", 1, "int3", None), "int3"),
                            (("rwkv7", config(BASE), entries, data, "cpu", -1, "auto", None), "-1")):
        with pytest.raises((RwkvError, TypeError)) as error:  # TypeError: -1 is no unsigned number; Model checks before
            _core.Engine(*arguments)
        assert word in str(error.value)


def test_progress_is_reported_and_can_cancel():
    entries, data = BASE.packed()
    calls: list[tuple[int, int]] = []
    _core.Engine("rwkv7", config(BASE), entries, data, "cpu", 1, "auto", lambda done, total: calls.append((done, total)))
    assert calls and calls[-1][0] == calls[-1][1] > 0
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        _core.Engine("rwkv7", config(BASE), entries, data, "cpu", 1, "auto", stop)


def test_weights_of_zero_and_of_extremes_stay_finite(device):
    """All-zero matrices (no head has a direction: kk is 0/eps) and large finite ones do not make NaN."""
    weights = random_weights(BASE.shape, seed=3)
    for factor in (0.0, 1e3):
        tensors = {n: encode(n, w * np.float32(factor) if w.ndim == 2 else w, "F32") for n, w in weights.items()}
        logits, state = run(open_engine(dataclasses.replace(BASE, tensors=tensors), device), random_tokens(20, 270))
        assert np.isfinite(logits).all()
        assert all(np.isfinite(values).all() for values in state.values())


@pytest.mark.parametrize("name", ["token_embd.weight", "blk.0.time_mix_key.weight", "blk.1.time_mix_w0.weight",
                                  "blk.1.channel_mix_value.weight", "output.weight"])
@pytest.mark.parametrize("numerics", ["f32", "int8"])
@pytest.mark.parametrize("bits", [0x7FFF, 0x7C00])
def test_nan_and_infinity_in_weights_stay_numbers(device, name, numerics, bits):
    """A damaged file may hold anything: the results are then worthless, but ids stay ids and nothing is read out of bounds.

    bits: a float16 NaN or infinity, written over the scales of Q8_0 blocks (and as float32 in the vector)."""
    tensor = BASE.tensors[name]
    data = tensor.data.copy()
    if tensor.ggml_type == GgmlType.Q8_0:
        data.reshape(-1, 34)[::3, :2] = np.array([bits], "<u2").view(np.uint8)
    else:
        data.view(np.float32)[::3] = np.float32(np.array([bits], "<u2").view(np.float16)[0])
    engine = open_engine(changed(name, dataclasses.replace(tensor, data=data)), device, numerics=numerics)
    run(engine, random_tokens(20, 270))
    ids, values, _ = engine.candidates(random_tokens(3, 270), None, engine.new_state(), 40, np.zeros(0, np.int32),
                                       np.zeros(0, np.float32))
    assert len(ids) == len(values) == 40 == len(set(ids.tolist()))
    assert 0 <= ids.min() and ids.max() < 270
    tokens = engine.greedy(1, engine.new_state(), 5, np.zeros(0, np.int32), None)
    assert len(tokens) <= 5 and all(0 <= token < 270 for token in tokens)  # it ends where no logit is a number
    states = [engine.new_state(), engine.new_state()]
    steps = engine.greedy_batch(np.array([1, 2], np.int32), states, 5)
    assert steps.shape == (5, 2) and steps.min() >= -1 and steps.max() < 270  # it goes on for the others
    assert (len(tokens) == 5) == (steps[:, 0].min() >= 0)
