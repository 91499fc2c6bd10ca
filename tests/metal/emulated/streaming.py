"""Models beyond the memory that they may use: the same bits as when everything stays, within the budget, for every kind of type."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
from engines import config, open_engine, random_tokens, tokens_of
from synthetic import SyntheticModel, build_model, make_model

from rwkvnative import Model, _core
from rwkvnative.errors import DeviceError, InputError

NONE = tokens_of([])
packed: dict[int, tuple[SyntheticModel, list[tuple], np.ndarray]] = {}
# What the software device recommends, where test_metal_engine.py says it.
LIMIT = int(os.environ.get("SOFT_METAL_WORKING_SET", "0"))
small_device = pytest.mark.skipif(LIMIT == 0, reason="of a device that models do not fit")
SHAPE = dict(n_embd=256, n_layer=4, n_ff=512, n_vocab=600, head_size=64, seed=31)
# Read in the file's pages; packed into slots; both in each layer; both with a head that must be packed, and layers of two sizes.
KINDS = {
    "in place": dict(type="Q4_K", head_type="F16", lora_type="F32"),
    "packed": dict(type="Q8_0", head_type="Q6_K", lora_type="Q5_0", ranks=(32, 32, 32, 64)),
    "mixed": dict(type="Q4_K", head_type="Q6_K", lora_type="F16", types={"blk.[13].channel_mix_value*": "Q6_K", "token_embd.weight": "Q3_K"}),
}


def open_with(model, budget: int = 0) -> _core.Engine:
    """Of the same bytes each time: where they begin in a page counts."""
    if id(model) not in packed:
        packed[id(model)] = (model, *model.packed())
    entries, data = packed[id(model)][1:]
    return _core.Engine("rwkv7", config(model), entries, data, "metal", 2, "f32", None, max_device_memory=budget)


def least(model) -> int:
    with pytest.raises(InputError, match=r"\[metal\] max_device_memory: 1 bytes .* at least \d+") as error:
        open_with(model, 1)
    return int(re.search(r"at least (\d+)", str(error.value))[1])


def outputs(engine: _core.Engine) -> list[np.ndarray]:
    """A prompt of two chunks and more, single tokens, a crowd, candidates, greedy tokens, and the states."""
    state = engine.new_state()
    tokens = random_tokens(19, 600, seed=32)
    results = [engine.forward(tokens, None, state, "last"), engine.forward(tokens[:3], state, state, "all")]
    results.append(engine.forward(tokens_of([5]), state, state, "last"))
    ids, values, log_sum = engine.candidates(tokens_of([9]), state, state, 20, tokens_of([3]), np.float32([0.5]))
    results += [ids, values, np.float32(log_sum)]
    fork = state.copy()
    results.append(np.array(engine.greedy(7, fork, 4, NONE)))
    results.append(engine.forward_batch([tokens[:2], tokens[2:3]], [state, fork], [state, fork], "last"))
    return results + list(state.read().values()) + list(fork.read().values())


def assert_equal(got: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(got) == len(expected)
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert np.array_equal(a, b), f"output {i} differs"


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_METAL_TUNING", "prefill_rows=8")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_for_every_budget(soft, kind):
    model = build_model(**SHAPE, **KINDS[kind])
    resident = open_with(model)
    info = resident.info
    assert info["streamed_bytes"] == 0 and info["resident_layers"] == info["layers"] == 5
    expected = outputs(resident)
    lowest = least(model)
    whole = open_with(model, lowest).info["streamed_bytes"]
    residents = []
    for share in (0, 0.25, 0.5):
        budget = lowest + round(share * whole)
        engine = open_with(model, budget)
        assert_equal(outputs(engine), expected)
        info = engine.info
        assert info["max_device_memory"] == budget
        assert info["device_bytes_used"] <= info["device_bytes_peak"] <= budget
        assert 0 < info["streamed_bytes"] <= whole * (1.25 - share)
        residents.append(info["resident_layers"])
    assert residents[0] == 0 and residents == sorted(residents) and residents[-1] >= 2


def test_chunks_of_a_prompt_as_tuned(soft, monkeypatch):
    """Results do not depend on the length, each length has its memory, and where layers stream the budget's stays."""
    monkeypatch.delenv("RWKVNATIVE_METAL_TUNING")
    model = build_model(**(SHAPE | {"n_layer": 1}), **KINDS["packed"])
    engine = open_with(model)
    assert engine.info["prefill_rows"] == engine.info["max_batch"] == 128 and engine.prefill_choices() == [64, 128, 256, 512, 1024, 2048]
    tokens, scratch = random_tokens(19, 600, seed=7), []

    def read() -> np.ndarray:
        logits = engine.forward(tokens, None, engine.new_state(), "last")
        scratch.append(engine.info["scratch_bytes"])
        return logits

    expected = read()
    for text, rows in (("prefill_rows=64", 64), ("simdgroups=2;prefill_rows=5", 5)):
        engine.set_tuning(text)
        assert engine.info["prefill_rows"] == rows and engine.info["max_batch"] == 128
        assert np.abs(read() - expected).max() <= 2e-5 * np.abs(expected).max()
    assert scratch == sorted(scratch, reverse=True) and len(set(scratch)) == 3
    with pytest.raises(InputError, match="prefill_rows: expected 0 to 4096"):
        engine.set_tuning("prefill_rows=4097")
    engine.set_tuning("")
    assert engine.info["prefill_rows"] == 128 and np.array_equal(read(), expected) and scratch[0] == scratch[-1]
    layers = build_model(**SHAPE, **KINDS["packed"])
    streamed = open_with(layers, least(layers))
    rows = streamed.info["prefill_rows"]
    streamed.set_tuning("prefill_rows=24")
    assert streamed.info["prefill_rows"] == rows != 24 and streamed.prefill_choices() == []


def test_a_budget_that_is_too_small_names_the_least(soft):
    model = build_model(**SHAPE, **KINDS["mixed"])
    enough = least(model)
    with pytest.raises(InputError, match=f"at least {enough}"):
        open_with(model, enough - 1)
    assert open_with(model, enough).info["resident_layers"] == 0


@small_device
def test_a_model_beyond_the_working_set_streams_by_itself(soft):
    model = build_model(**(SHAPE | {"n_layer": 8}), **KINDS["mixed"])
    engine = open_with(model)
    info = engine.info
    assert 0 < info["streamed_bytes"] and 0 < info["resident_layers"] < 9
    assert info["max_device_memory"] == LIMIT >= info["device_bytes_peak"]
    cpu = open_engine(model, "cpu")
    tokens = random_tokens(5, 600)
    got, expected = (e.forward(tokens, None, e.new_state(), "last") for e in (engine, cpu))
    assert np.abs(got - expected).max() <= 2e-5 * np.abs(expected).max()


@small_device
def test_a_model_that_leaves_no_room_for_a_longer_chunk(soft, monkeypatch):
    monkeypatch.delenv("RWKVNATIVE_METAL_TUNING")
    engine = open_with(build_model(n_embd=256, n_layer=1, type="Q8_0", seed=3))
    choices = engine.prefill_choices()
    assert engine.info["streamed_bytes"] == 0 and 128 in choices and 2048 not in choices
    with pytest.raises(DeviceError, match="prefill_rows=4096: a chunk of so many tokens needs"):
        engine.set_tuning("prefill_rows=4096")
    assert engine.info["prefill_rows"] == 128


@small_device
def test_a_model_under_memory_pressure_gives_programs_up(soft):
    """It fits, its states go on to take more than the system would like: of programs only the one in use is kept."""
    engine = open_with(build_model(n_embd=256, n_layer=1, type="Q8_0", seed=3))
    assert engine.info["streamed_bytes"] == 0

    def scratch_bytes(n: int) -> int:
        states = [engine.new_state() for _ in range(n)]
        engine.forward_batch([tokens_of([1])] * n, [None] * n, states, "last")
        return engine.info["scratch_bytes"]

    one, both = scratch_bytes(1), scratch_bytes(2)
    assert both > one
    states = [engine.new_state() for _ in range(LIMIT // 65536)]
    assert scratch_bytes(4) != 0 and scratch_bytes(1) == one
    assert len(states) > 100


@small_device
def test_a_model_that_can_never_fit_says_so(soft):
    with pytest.raises(DeviceError, match=r"the model's weights need \d+ MiB.*at least \d+"):
        open_with(build_model(**(SHAPE | {"n_layer": 2, "n_ff": 4096}), type="F32"))


def test_many_states_end_with_an_error_and_their_memory_comes_back(soft):
    model = build_model(**SHAPE, **KINDS["mixed"])
    engine = open_with(model, budget := least(model))
    first = engine.forward(tokens_of([5]), None, engine.new_state(), "last")
    states = []
    with pytest.raises(DeviceError, match=rf"no room for \d+ bytes: \d+ of the {budget} bytes of max_device_memory"):
        for _ in range(1000):
            states.append(engine.new_state())
    assert len(states) > 3 and engine.info["device_bytes_peak"] <= budget
    states.clear()
    assert np.array_equal(engine.forward(tokens_of([5]), None, engine.new_state(), "last"), first)


def test_profile_times_each_upload(soft):
    model = build_model(**SHAPE, **KINDS["mixed"])
    engine = open_with(model, least(model) + 200_000)
    step = engine.profile(1, 1, 1, 0.0)
    uploads = step["uploads"]
    assert sum(upload["bytes"] for upload in uploads) == engine.info["streamed_bytes"]
    assert all(upload["microseconds"] > 0 for upload in uploads)
    assert {upload["label"].split()[0].rstrip(",") for upload in uploads} <= {"layer", "head"}
    assert [u["first_op"] for u in uploads] == sorted(u["first_op"] for u in uploads)
    assert len(step["ops"]) > 20 and all(op["microseconds"] >= 0 for op in step["ops"])
    resident = open_with(model)
    for e in (engine, resident):
        assert np.array_equal(e.forward(tokens_of([3]), None, e.new_state(), "last"), resident.forward(tokens_of([3]), None, resident.new_state(), "last"))


@pytest.mark.parametrize("code", [2, 8])
def test_errors_on_the_way(soft, code):
    """Whichever of a token's command buffers fails: the error is reported, the slots are free, and the next token is right."""
    model = build_model(**SHAPE, **KINDS["mixed"])
    engine = open_with(model, least(model))
    state, out = engine.new_state(), engine.new_state()
    engine.forward(tokens_of([3]), None, state, "none")
    expected = engine.forward(tokens_of([1]), state, out, "last")
    for n in (1, 2, 4, 6):
        soft.fail_command_buffer(n, code)
        with pytest.raises(DeviceError, match="program"):
            engine.forward(tokens_of([1]), state, out, "last")
        soft.fail_command_buffer(0, 0)
        assert np.array_equal(engine.forward(tokens_of([1]), state, out, "last"), expected)


def test_no_memory_on_the_way(soft):
    """The device refuses to wrap a layer's pages."""
    model = build_model(**SHAPE, **KINDS["in place"])
    engine = open_with(model, least(model))
    state, out = engine.new_state(), engine.new_state()
    expected = engine.forward(tokens_of([1]), state, out, "last")
    for n in (1, 2, 3):
        soft.fail_allocation(n)
        with pytest.raises(DeviceError, match="(layer|head).*bytes of the model file"):
            engine.forward(tokens_of([1]), state, out, "last")
        assert np.array_equal(engine.forward(tokens_of([1]), state, out, "last"), expected)
    soft.fail_allocation(3)
    with pytest.raises(DeviceError):
        engine.forward(tokens_of([1]), state, out, "last")
    engine.set_tuning("")  # its programs go, and must have waited for the layers that were begun


def test_a_mapped_file(soft, tmp_path):
    """Whole, with the pager's advice: text as when it stays; a file that changes is an error."""
    path = tmp_path / "model.gguf"
    make_model(path, n_embd=256, n_layer=3, n_ff=512, type="Q4_K", head_type="Q6_K", seed=3)
    with Model(path, device="metal") as resident:
        expected = [resident.forward([1, 2, t], all_logits=True)[0] for t in (3, 4)]
    with pytest.raises(InputError) as error:
        Model(path, device="metal", max_device_memory=1)
    budget = int(re.search(r"at least (\d+)", str(error.value))[1])
    with Model(path, device="metal", max_device_memory=budget) as streaming:
        for logits, t in zip(expected, (3, 4), strict=True):
            assert np.array_equal(streaming.forward([1, 2, t], all_logits=True)[0], logits)
        with path.open("ab") as file:
            file.write(b"x")
        with pytest.raises(OSError, match="changed"):
            streaming.forward([1])
