"""The texts of kernels as a device with subgroup matrices gets them (NVIDIA's shapes), which no software GPU has. Dawn's null
adapter (RWKVNATIVE_WEBGPU_NULL, csrc/webgpu/options.h) reads and checks each text and runs nothing: a name, a type or a
barrier that is wrong fails here, a wrong sum does not; those are for `pytest tests/test_webgpu_matmat.py -k matrix` on hardware."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from engines import config, open_engine, tokens_of
from rwkvnative import _core
from rwkvnative.errors import DeviceError
from synthetic import ALL_TYPES, build_model

ROLES = ("time_mix_receptance", "time_mix_key", "time_mix_value", "time_mix_output", "channel_mix_key", "channel_mix_value",
         "output.weight", "time_mix_[wa]?")
DEVICE = "webgpu:null"


@pytest.fixture(autouse=True)
def null_adapter(monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_NULL", "1")


def model_of(types) -> dict:
    of_role = {role: types[i % len(types)] for i, role in enumerate(ROLES)} | {f"time_mix_{z}0": "F32" for z in "wa"}
    return build_model(n_embd=256, n_layer=2, n_ff=512, n_vocab=300, ranks=(256, 256, 32, 32), types=of_role, seed=31)


@pytest.mark.parametrize("weights", [1, 2])
@pytest.mark.parametrize("tile", [16, 32, 64, 128, "128,matmat_outs=128"])
def test_products_by_subgroup_matrices(monkeypatch, tile, weights):
    """All types, packed or as tiles, with the rows of activations asked for ahead or not."""
    for i in range(0, len(ALL_TYPES), len(ROLES) - 1):
        monkeypatch.setenv("RWKVNATIVE_WEBGPU_TUNING",
                           f"matmat=2,matmat_rows=2,matmat_tile={tile},matmat_weights={weights},matmat_ahead={i % 2},matmat_puts={i % 2}")
        engine = open_engine(model_of(ALL_TYPES[i:i + len(ROLES) - 1]), DEVICE)
        engine.forward(tokens_of(range(40)), None, engine.new_state(), "all")


@pytest.mark.parametrize("tuning", ["", "wkv_halves=1,mix_ahead=0"])
def test_programs_of_all_lengths_and_readouts(monkeypatch, tuning):
    """What an engine chooses on such a device, int8 numerics: a token, few rows, short and long chunks, crowds."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_TUNING", tuning)
    engine = open_engine(model_of(("Q4_K", "Q6_K", "F16")), DEVICE, numerics="int8")
    state = engine.new_state()
    for n in (1, 2, 16, 17, 64, 65, 300):
        engine.forward(tokens_of([i % 300 for i in range(n)]), None, state, "last")
    engine.candidates(tokens_of([1]), state, state, 40, tokens_of([]), np.empty(0, np.float32))
    states = [engine.new_state() for _ in range(40)]
    engine.forward_batch([tokens_of([1])] * 40, states, states)
    engine.forward_batch([tokens_of(range(5))] * 3, states[:3], states[:3])


@pytest.mark.parametrize("room, made", [(4, [1, 0, 1, 0, 1, 0, 1, 0, 1]), (2.5, [1, 0, 1, 0, 1, 0, 0, 0, 0])])
def test_short_prompts_have_programs_of_their_own(monkeypatch, room, made):
    """Of 16, 64, 128 and 256 rows on hardware; where memory (so many times the weights' here) is short, of 16 and 64."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_DISABLE", "host-pointer")  # Dawn's null device says that it can, and does not come back
    model = build_model(n_embd=256, n_layer=6, n_ff=1024, n_vocab=300, types={"": "Q8_0"}, seed=31)
    entries, data = model.packed()
    weights = open_engine(model, DEVICE).info["weight_bytes"]
    engine = _core.Engine("rwkv7", config(model), entries, data, DEVICE, 0, "int8", None, max_device_memory=int(room * weights))
    assert engine.info["prefill_rows"] >= 512 and engine.info["streamed_bytes"] == 0
    state, programs = engine.new_state(), [0]
    for n in (2, 16, 17, 64, 65, 128, 129, 256, 257):
        engine.forward(tokens_of([1] * n), None, state, "last")
        programs.append(engine.info["programs"])
    assert list(np.diff(programs)) == made


def test_a_text_with_a_mistake_is_noticed(monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_FAIL", "kernel=linear")
    engine = open_engine(model_of(("Q4_K",)), DEVICE, numerics="int8")
    with pytest.raises(DeviceError, match="linear.* does not compile"):
        engine.forward(tokens_of(range(100)), None, engine.new_state(), "last")


def test_products_share_their_kernel():
    """All ops of all layers, though the first layer has no value residual, so a matrix less in two of them, and types differ."""
    model = model_of(("Q4_K", "Q6_K", "F16"))
    entries, data = model.packed()
    benchmark = _core.WebgpuBenchmark("rwkv7", config(model), entries, data, DEVICE, "int8")
    compiled = benchmark.batch("", sequences=1, rows=300, warm=0, n=1)["kernel_seconds"]
    assert [label for label, _ in compiled if label.startswith("linear") or label == "lora"] == ["linear r k v w_hidden a_hidden g_hidden"]
    assert all(seconds > 0 for _, seconds in compiled)


def test_a_crowds_time_mix_writes_float16_if_asked_to():
    """Chunks are long on such a device, in whose Programs products finish some outputs: a crowd's Program is none of them."""
    model = model_of(("Q4_K",))
    entries, data = model.packed()
    benchmark = _core.WebgpuBenchmark("rwkv7", config(model), entries, data, DEVICE, "int8")
    made = [benchmark.batch(f"wkv_halves={n}", sequences=40, rows=1, warm=0, n=1)["kernel_seconds"] for n in (0, 1)]
    assert "wkv7 step" in [label for label, _ in made[1]]


SLOW = 5e11  # operations a second that a device without subgroup matrices is trusted with (csrc/webgpu/watchdog.cpp)


def test_what_is_long_on_a_slow_gpu_is_several_submits(monkeypatch):
    """A driver that finds one submit too long takes the device away."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_DISABLE", "matrices")
    model = model_of(("Q4_K",))
    entries, data = model.packed()
    operations = 2 * 300 * sum(math.prod(t.ne) for name, t in model.tensors.items() if re.match(r"blk.*(receptance|key|value|output)\.weight", name))
    benchmark = _core.WebgpuBenchmark("rwkv7", config(model), entries, data, DEVICE, "int8")
    submits = {us: benchmark.batch(f"in_flight=1,submit_us={us}", sequences=1, rows=300, warm=0, n=1)["submits"] for us in (500000, 200, 100)}
    assert submits[500000] < 3
    for us in (200, 100):
        assert submits[us] >= operations / (SLOW * us * 1e-6) > 4


def test_chunks_for_a_slow_gpu_are_shorter(monkeypatch):
    """No dispatch may be too long either: not the channel mix's of a chunk, nor the head's for all of its logits."""
    model = build_model(n_embd=256, n_layer=1, n_ff=1024, n_vocab=4096, type="Q4_0", seed=31)
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_TUNING", "submit_us=600")
    chunks = []
    for disabled in ("carry", "matrices"):
        monkeypatch.setenv("RWKVNATIVE_WEBGPU_DISABLE", disabled)
        info = open_engine(model, DEVICE, numerics="int8").info
        chunks.append((info["prefill_rows"], info["max_batch"]))
    most = SLOW * 600e-6
    assert chunks == [(1024, 1024), (most // (2 * 256 * 1024) // 64 * 64, most // (2 * 256 * 4096) // 64 * 64)]


@pytest.fixture
def smallest(monkeypatch):
    """A device of WebGPU's default limits, bindings of 128 MiB among them, and no feature. Dawn checks what pipelines and bindings take."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_DISABLE", "limits,matrices,subgroups,dot4,f16,timestamps,host-pointer")


def test_the_smallest_device_draws_for_a_crowd(smallest):
    engine = open_engine(build_model(n_embd=32, head_size=32, n_layer=1, n_ff=32, n_vocab=65536, seed=3), DEVICE)
    drawn = {n for n in (1, 64, 120, engine.info["max_batch"]) for penalties in (False, True) if engine.can_draw(n, penalties)}
    assert {1, 64} <= drawn  # of more, a binding has no room for every token that each may have used


def test_it_is_no_device_for_anybody_else(monkeypatch):
    assert any("Null" in d["features"] for d in _core.devices())
    monkeypatch.delenv("RWKVNATIVE_WEBGPU_NULL")
    assert not any("Null" in d["features"] for d in _core.devices())
