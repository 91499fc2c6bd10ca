"""Weights that pass through the device: the same numbers as when they stay, within the budget, whatever the way in.

On lavapipe with Dawn's validation; the ways in are host memory that the device reads, staging buffers filled from packed
host memory, and staging buffers packed from the file each time.
"""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import webgpu_devices
from engines import assert_same, config, random_tokens, tokens_of
from synthetic import build_model

from rwkvnative import Model, _core
from rwkvnative.errors import DeviceError, InputError
from rwkvnative.sizes import parse_bytes

EMPTY = tokens_of([])
NO_BIAS = np.empty(0, np.float32)
# Six layers of two sizes, and a head of several pieces: each piece is cut to about a layer.
OPTIONS = dict(n_embd=128, n_layer=6, n_ff=256, n_vocab=2500, type="Q8_0", types={"blk.[135].channel_mix_value*": "F16"}, seed=31)
WAYS = {
    "host-memory": {},
    "staging": {"RWKVNATIVE_WEBGPU_DISABLE": "host-pointer"},
    "packed-each-time": {"RWKVNATIVE_WEBGPU_HOST_CACHE": "0"},
    "few-carriers": {"RWKVNATIVE_WEBGPU_TUNING": "carry_threads=512"},
    "half-cached": {"RWKVNATIVE_WEBGPU_HOST_CACHE": "900000", "RWKVNATIVE_WEBGPU_DISABLE": "host-pointer"},
}


@pytest.fixture(scope="module")
def model():
    return build_model(**OPTIONS)


@pytest.fixture(autouse=True, scope="module")
def small_and_validated():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
        monkeypatch.setenv("RWKVNATIVE_WEBGPU_MAX_BINDING", "1100000")  # chunks of 16 tokens
        yield


def open_engine(model, budget: int = 0, device: str = "llvmpipe", numerics: str = "int8") -> _core.Engine:
    entries, data = model.packed()
    return _core.Engine("rwkv7", config(model), entries, data, webgpu_devices.require(device), 2, numerics, None,
                        max_device_memory=budget)


def named_least(model, **options) -> int:
    """The least budget at all, as the error says it."""
    with pytest.raises(InputError, match="at least") as error:
        open_engine(model, 1, **options)
    return int(re.search(r"at least (\d+)", str(error.value))[1])


def least(model, **options) -> int:
    """The least budget for the usual chunk of a prompt: what an engine without a budget names as such when given none."""
    usual = open_engine(model, **options).info["prefill_rows"]
    low, high = named_least(model, **options), 1 << 40
    while high - low > 4096:  # between chunks of 8 and the usual ones
        middle = (low + high) // 2
        low, high = (low, middle) if open_engine(model, middle, **options).info["prefill_rows"] == usual else (middle, high)
    return high


def outputs(engine) -> list[np.ndarray]:
    """What every kind of call gives: a prompt in two chunks, all logits, hidden, candidates, greedy, and the state."""
    state = engine.new_state()
    tokens = random_tokens(engine.info["prefill_rows"] + 5, 2500, seed=32)
    results = [engine.forward(tokens, None, state, "last"), engine.forward(tokens[:9], state, state, "all")]
    results.append(engine.forward(tokens_of([5]), state, state, "last"))
    ids, values, log_sum = engine.candidates(tokens_of([9]), state, state, 20, tokens_of([3]), np.float32([0.5]))
    results += [ids, values, np.float32(log_sum), engine.hidden(tokens[3:7], state, state)]
    fork = state.copy()
    results.append(np.array(engine.greedy(7, fork, 12, EMPTY)))
    seen: list[int] = []
    results.append(np.array(engine.greedy(7, state, 12, EMPTY, lambda token: seen.append(token) or len(seen) < 4)))
    return results + list(state.read().values()) + list(fork.read().values())


def assert_equal(got: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(got) == len(expected)
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert np.array_equal(a, b), f"output {i} differs"


@pytest.fixture(scope="module")
def resident(model):
    engine = open_engine(model)
    info = engine.info
    assert info["resident_layers"] == info["layers"] == 7
    assert info["streamed_bytes"] == info["host_bytes"] == info["max_device_memory"] == 0
    return outputs(engine)


@pytest.fixture(scope="module")
def budgets(model):
    """From two slots to one layer less than all."""
    lowest = least(model)
    streamed = open_engine(model, lowest).info["streamed_bytes"]
    return [lowest + round(share * streamed) for share in (0, 0.35, 0.6)]


@pytest.mark.parametrize("share", range(3))
def test_the_same_bits_for_every_budget(model, resident, budgets, share):
    engine = open_engine(model, budgets[share])
    assert_equal(outputs(engine), resident)
    info = engine.info
    assert info["max_device_memory"] == budgets[share]
    assert info["device_bytes_used"] <= info["device_bytes_peak"] <= budgets[share]
    assert info["streamed_bytes"] <= info["host_bytes"]
    assert info["resident_layers"] < info["layers"]
    assert (share == 0) == (info["resident_layers"] == 0)
    assert engine.can_draw(1, False)  # the device reads the embedding table where it is: tokens need not pass by the host


@pytest.mark.parametrize("way", list(WAYS)[1:])
def test_every_way_in(model, resident, budgets, way, monkeypatch):
    for name, value in WAYS[way].items():
        monkeypatch.setenv(name, value)
    engine = open_engine(model, budgets[1])
    assert_equal(outputs(engine), resident)
    info = engine.info
    assert info["device_bytes_peak"] <= budgets[1]
    packed = info["host_bytes"] >= info["streamed_bytes"]
    assert {"staging": packed, "few-carriers": packed, "packed-each-time": info["host_bytes"] == 0,
            "half-cached": 0 < info["host_bytes"] < info["streamed_bytes"]}[way]


def test_residency_grows_with_the_budget(model, budgets):
    infos = [open_engine(model, budgets[0] + i * 150_000).info for i in range(0, 16, 3)]
    streamed = [info["streamed_bytes"] for info in infos]
    assert streamed == sorted(streamed, reverse=True)
    assert streamed[0] > 2 * streamed[-1]


def test_rather_a_shorter_chunk_than_a_layer_that_streams(model, monkeypatch):
    monkeypatch.delenv("RWKVNATIVE_WEBGPU_MAX_BINDING")  # usual chunks are long then
    usual = open_engine(model).info["prefill_rows"]
    infos = []
    budget = named_least(model)
    while not infos or infos[-1]["prefill_rows"] < usual or infos[-1]["streamed_bytes"]:
        infos.append(open_engine(model, budget).info)
        budget += 60_000
        assert budget < 40_000_000
    infos = [info for info in infos if info["prefill_rows"] >= 72]  # below, there is no room even for two slots
    streamed = [info["streamed_bytes"] for info in infos]
    assert streamed == sorted(streamed, reverse=True) and streamed[0] > 0
    assert any(info["streamed_bytes"] == 0 and info["prefill_rows"] < usual for info in infos)


def test_an_embedding_table_of_several_bindings(monkeypatch):
    big = build_model(n_embd=64, n_layer=4, n_ff=128, n_vocab=9000, type="F16", seed=33)  # 9000 rows of 128 bytes, one binding of 1100000
    tokens = tokens_of([1, 8999, 4500, 17, 8590])
    usual = open_engine(big)
    expected = usual.forward(tokens, None, usual.new_state(), "last")
    engine = open_engine(big, named_least(big))
    assert engine.info["streamed_bytes"] > 0
    assert np.array_equal(engine.forward(tokens, None, engine.new_state(), "last"), expected)


def test_a_budget_that_is_too_small_names_the_least(model, resident):
    with pytest.raises(InputError, match=r"max_device_memory: 1000 bytes .* at least (\d+)") as error:
        open_engine(model, 1000)
    enough = int(re.search(r"at least (\d+)", str(error.value))[1])
    with pytest.raises(InputError, match=f"at least {enough}"):
        open_engine(model, enough - 1)
    engine = open_engine(model, enough)
    assert engine.info["resident_layers"] == 0
    tokens = random_tokens(3)
    usual = open_engine(model)
    assert np.array_equal(engine.forward(tokens[:1], None, engine.new_state(), "last"),
                          usual.forward(tokens[:1], None, usual.new_state(), "last"))


def test_no_submit_of_a_streamed_chunk_is_too_long(monkeypatch):
    """By csrc/webgpu/watchdog.h's estimate: what is left of a layer that was too long for one submit counts in the next one too."""
    model = build_model(n_embd=128, n_layer=8, n_ff=256, n_vocab=300, type="Q8_0", seed=31)
    entries, data = model.packed()
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_MEMORY", str(named_least(model) * 8 // 7))
    info = open_engine(model).info
    streamed = info["layers"] - 1 - info["resident_layers"]  # the head is one, and is not in a chunk
    products = [t for name, t in model.tensors.items() if re.match(r"blk.1.*(receptance|key|value|output)\.weight", name)]
    operations = 2 * 16 * sum(math.prod(t.ne) for t in products)
    seconds = min(operations / 2e11, info["streamed_bytes"] / (streamed + 1) / 2e9)  # of a layer: its products, its upload
    assert streamed >= 4 and seconds > 15e-6, info
    benchmark = _core.WebgpuBenchmark("rwkv7", config(model), entries, data, webgpu_devices.require("llvmpipe"), "int8")
    got = benchmark.batch(f"submit_us={int(0.9e6 * seconds)}", sequences=1, rows=16, warm=0, n=1)["submits"]
    assert got >= 3 * streamed  # its upload with the first dispatch, which is no product, and two for the products


def test_profile_times_each_upload(model, resident, budgets):
    engine = open_engine(model, budgets[1])
    step = engine.profile(1, 1, 1, 0.0)
    info = engine.info
    assert sum(upload["bytes"] for upload in step["uploads"]) == info["streamed_bytes"]
    assert all(upload["microseconds"] > 0 for upload in step["uploads"])
    assert step["upload_microseconds"] > 0
    assert [u["first_op"] for u in step["uploads"]] == sorted(u["first_op"] for u in step["uploads"])
    assert_equal(outputs(engine), resident)  # and nothing is left behind


def test_a_model_that_does_not_fit_streams_by_itself(model, resident, budgets, monkeypatch):
    """A device that refuses more than so many bytes, without a budget of the caller's."""
    has = budgets[1] * 16 // 15 + 16
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_MEMORY", str(has))
    engine = open_engine(model)
    info = engine.info
    assert 0 < info["streamed_bytes"] and info["device_bytes_peak"] <= has
    assert_equal(outputs(engine), resident)


def test_many_states_end_with_an_error_and_their_memory_comes_back(model, budgets):
    engine = open_engine(model, budgets[0])
    first = engine.forward(tokens_of([5]), None, engine.new_state(), "last")
    states = []
    with pytest.raises(DeviceError, match=rf"no room for \d+ bytes: \d+ of the {budgets[0]} bytes of max_device_memory"):
        for _ in range(1000):
            states.append(engine.new_state())
    assert len(states) > 3
    assert engine.info["device_bytes_peak"] <= budgets[0]
    states.clear()
    assert np.array_equal(engine.forward(tokens_of([5]), None, engine.new_state(), "last"), first)


def test_an_interrupted_prompt_leaves_the_state_as_it_was(model, budgets):
    """A progress callback that raises, which is how Ctrl-C ends a call, after the first chunk of several."""
    engine = open_engine(model, budgets[0])
    state = engine.new_state()
    engine.forward(tokens_of([5]), state, state, "none")
    before = state.read()
    tokens = random_tokens(36, 2500, seed=33)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.forward(tokens, state, engine.new_state(), "last", stop)
    assert_same(state.read(), before)
    again = engine.forward(tokens, state, engine.new_state(), "last")
    assert np.array_equal(again, open_and_forward(model, tokens_of([5]), tokens))


def open_and_forward(model, first, rest) -> np.ndarray:
    engine = open_engine(model)
    state = engine.new_state()
    engine.forward(first, None, state, "none")
    return engine.forward(rest, state, state, "last")


def test_swiftshader_streams_the_same_bits():
    model = build_model(n_embd=64, n_layer=4, n_vocab=300, type="Q8_0", seed=34)
    usual = open_engine(model, device="SwiftShader")
    with pytest.raises(InputError) as error:
        open_engine(model, 1, "SwiftShader")
    streaming = open_engine(model, int(re.search(r"at least (\d+)", str(error.value))[1]), "SwiftShader")
    assert streaming.info["resident_layers"] == 0
    for engine_state in [(usual.new_state(), streaming.new_state())]:
        for token in (1, 2, 3):
            a, b = (engine.forward(tokens_of([token]), state, state, "last")
                    for engine, state in zip((usual, streaming), engine_state, strict=True))
            assert np.array_equal(a, b)


# ---- the budget as people write it ----


@pytest.mark.parametrize("text, n_bytes", [("4GiB", 4 << 30), ("1.5 GiB", 3 << 29), ("500MB", 500_000_000), ("64kib", 65536), ("4096", 4096),
                                           ("7 b", 7), (1 << 20, 1 << 20)])
def test_sizes(text, n_bytes):
    assert parse_bytes(text, "x") == n_bytes


@pytest.mark.parametrize("bad", ["", "GiB", "4 gigs", "-1", "0", 0, -5, True, 1.5, "1e9", None, "nan", "1.2.3MB"])
def test_bad_sizes_name_the_setting(bad):
    with pytest.raises(InputError, match="max_device_memory: expected bytes"):
        parse_bytes(bad, "max_device_memory")


def test_the_environment_stands_in_for_the_argument(monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_MAX_DEVICE_MEMORY", "x GiB")
    with pytest.raises(InputError, match="RWKVNATIVE_MAX_DEVICE_MEMORY"):
        Model(device="cpu")
    monkeypatch.setenv("RWKVNATIVE_MAX_DEVICE_MEMORY", "3GiB")
    with Model(device="cpu") as model:
        assert model.info["max_device_memory"] == 3 << 30
