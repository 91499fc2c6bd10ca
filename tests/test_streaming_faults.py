"""What goes wrong while weights stream: a device lost between a layer's upload and its kernels, a driver that has no memory left,
Ctrl-C in the middle of a token and of a chunk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import webgpu_devices
from engines import assert_same, config, random_tokens, tokens_of
from synthetic import build_model

from rwkvnative import _core
from rwkvnative.errors import DeviceError, InputError

WAYS = {"in-kernels": {}, "staging": {"RWKVNATIVE_WEBGPU_DISABLE": "host-pointer"}}


@pytest.fixture(scope="module")
def model():
    return build_model(n_embd=128, n_layer=6, n_ff=256, n_vocab=600, type="Q8_0", seed=41)


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_MAX_BINDING", "500000")


def open_engine(model, budget: int = 0) -> _core.Engine:
    entries, data = model.packed()
    return _core.Engine("rwkv7", config(model), entries, data, webgpu_devices.require("llvmpipe"), 2, "int8", None, max_device_memory=budget)


@pytest.fixture(scope="module")
def budget(model) -> int:
    """Half of the layers stay."""
    resident = open_engine(model)
    budget = resident.info["device_bytes"]
    while open_streaming(model, budget) is None:
        budget += budget // 8
    return budget


def open_streaming(model, budget: int) -> _core.Engine | None:
    try:
        engine = open_engine(model, budget)
    except InputError:
        return None
    assert engine.info["streamed_bytes"] > 0
    return engine


@pytest.mark.parametrize("way", WAYS)
def test_a_device_lost_in_the_middle_of_streaming(model, budget, way, monkeypatch):
    """Lost at a later and later submit, until loading and three tokens need no more than that."""
    for name, value in WAYS[way].items():
        monkeypatch.setenv(name, value)
    healthy = open_engine(model, budget)

    def use(engine: _core.Engine) -> list[np.ndarray]:
        state = engine.new_state()
        return [engine.forward(tokens_of([token]), state, state, "last") for token in (5, 7, 9)]

    expected = use(healthy)
    step = 3 if way == "in-kernels" else 17  # submits of a token are two or three, or one for every piece of weights
    lost_in_use = 0
    for at in range(6, 300, step):
        monkeypatch.setenv("RWKVNATIVE_WEBGPU_FAIL", f"lost={at}")
        try:
            engine = open_engine(model, budget)
        except DeviceError as error:
            assert "the device was lost" in str(error)
            continue
        finally:
            monkeypatch.delenv("RWKVNATIVE_WEBGPU_FAIL")
        state = engine.new_state()
        try:
            results = use(engine)
        except DeviceError as error:
            lost_in_use += 1
            assert "the device was lost" in str(error) and "load the model again" in str(error)
            for again in (lambda: use(engine), lambda: engine.forward(tokens_of([5]), None, state, "last"), lambda: engine.profile(1, 1, 1, 0.0)):
                with pytest.raises(DeviceError, match="the device was lost"):
                    again()
        else:
            assert all(np.array_equal(a, b) for a, b in zip(results, expected, strict=True))
            break
        del engine, state
    assert lost_in_use >= 2
    assert all(np.array_equal(a, b) for a, b in zip(use(healthy), expected, strict=True))  # another device of the same driver


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("call", ["token", "chunk"])
@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_in_the_middle(model, budget, call, way, monkeypatch):
    """The state that a call starts from is as before, and the next call finds the right weights in the slots."""
    for name, value in WAYS[way].items():
        monkeypatch.setenv(name, value)
    engine, resident = open_engine(model, budget), open_engine(model)
    tokens = tokens_of([9]) if call == "token" else random_tokens(4 * engine.info["prefill_rows"] + 3, 600, seed=43)
    state, other = engine.new_state(), resident.new_state()
    engine.forward(tokens_of([5]), None, state, "none")
    resident.forward(tokens_of([5]), None, other, "none")
    expected = resident.forward(tokens, other, resident.new_state(), "last")
    before = state.read()
    for milliseconds in (1, 4, 11, 23):
        timer = threading.Timer(1e-3 * milliseconds, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            for _ in range(10_000):
                engine.forward(tokens, state, engine.new_state(), "last")
        assert_same(state.read(), before)
        assert np.array_equal(engine.forward(tokens, state, engine.new_state(), "last"), expected)


# SwiftShader says when it has no memory for a buffer; lavapipe hands out memory that it does not have and crashes when it is used.
# (SwiftShader's compiler crashes too: so the limit is lifted before anything is compiled.)
OUT_OF_MEMORY = """
import re, resource
import numpy as np
from rwkvnative import _core
from rwkvnative.bench.random_model import random_model
from rwkvnative.errors import DeviceError

def address_space() -> int:
    return int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10

def limit(bytes_more: int | None) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (-1 if bytes_more is None else address_space() + bytes_more, -1))

def open_engine(model, **options):
    return _core.Engine("rwkv7", model.config, model.tensors, model.data, "webgpu:SwiftShader", 2, "int8", **options)

tiny, large = random_model("tiny:q4_0"), random_model("0.1b:f16")
keep = open_engine(tiny)  # Dawn and the driver are loaded
open_engine(tiny)
before = address_space()
limit(300 << 20)
for _ in range(3):
    try:
        open_engine(large, max_device_memory=1 << 40)
        raise SystemExit("it fits")
    except DeviceError as error:
        print(error)
assert address_space() < before + (192 << 20), (before, address_space())
limit(None)
assert keep.forward(np.int32([7]), None, keep.new_state(), "last").shape == (2048,)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a limit of the address space, and /proc")
def test_a_driver_that_is_out_of_memory(monkeypatch):
    """A real failure of the driver's allocation: the process may have no more memory, and a software GPU's is the process's."""
    webgpu_devices.require("SwiftShader")
    monkeypatch.delenv("RWKVNATIVE_WEBGPU_MAX_BINDING")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # threads reserve 64 MB each otherwise, and the driver's crash when they cannot
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and len(set(lines)) == 1, done.stdout
    assert re.match(r"\[webgpu\] SwiftShader.*: weights 0 \(\d{9} bytes\): .*OUT_OF_DEVICE_MEMORY; 0 bytes are in use$", lines[0]), lines[0]
