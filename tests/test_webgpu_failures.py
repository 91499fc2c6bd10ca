"""What goes wrong on a device, made to go wrong: one sentence that says what to do, a living process, and other models unharmed."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import webgpu_devices
from engines import open_engine, tokens_of
from synthetic import build_model

from rwkvnative import _core
from rwkvnative.errors import DeviceError, InputError

TINY = dict(n_embd=32, head_size=16, n_layer=1, n_ff=64, n_vocab=40, ranks=(4, 4, 4, 8))


# RWKVNATIVE_TEST_GPUS=NVIDIA, a part of an adapter's name, runs these on hardware instead.
GPUS = os.environ["RWKVNATIVE_TEST_GPUS"].split(",") if "RWKVNATIVE_TEST_GPUS" in os.environ else webgpu_devices.SOFTWARE


@pytest.fixture(params=GPUS)
def gpu(request) -> str:
    return webgpu_devices.require(request.param)


def one_sentence(error: pytest.ExceptionInfo, *parts: str) -> None:
    text = str(error.value)
    assert text.startswith("[webgpu] "), text
    for part in parts:
        assert part in text, text


def in_new_process(code: str, **environment: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_lost_device(gpu, monkeypatch):
    """Some submit loses it: that call says so, so does every later one, and a model on the same adapter and
    one on the CPU go on."""
    model = build_model(**TINY)
    token = tokens_of([7])
    other = open_engine(model, gpu)
    other_state = other.new_state()
    expected = other.forward(token, None, other_state, "last")

    monkeypatch.setenv("RWKVNATIVE_WEBGPU_FAIL", "lost=20")
    doomed = open_engine(model, gpu)
    monkeypatch.delenv("RWKVNATIVE_WEBGPU_FAIL")
    state = doomed.new_state()
    with pytest.raises(DeviceError) as error:
        for _ in range(40):
            doomed.forward(token, None, state, "last")
    one_sentence(error, "the device was lost", "load the model again", 'device="cpu"')
    for use in (lambda: doomed.forward(token, state, state, "last"), lambda: doomed.greedy(7, state, 5, tokens_of([])),
                lambda: doomed.candidates(token, state, state, 4, tokens_of([]), np.empty(0, np.float32)), state.read):
        with pytest.raises(DeviceError, match="the device was lost"):
            use()
    del state, doomed

    assert np.array_equal(other.forward(token, None, other_state, "last"), expected)
    again = open_engine(model, gpu)
    assert np.array_equal(again.forward(token, None, again.new_state(), "last"), expected)
    cpu = open_engine(model, "cpu")
    assert cpu.forward(token, None, cpu.new_state(), "last").shape == expected.shape


def test_a_device_lost_while_tickets_are_in_flight(gpu, monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_FAIL", "lost=12")
    engine = open_engine(build_model(**TINY), gpu)
    with pytest.raises(DeviceError) as error:
        engine.greedy(7, engine.new_state(), 40, tokens_of([]))
    one_sentence(error, "the device was lost", "load the model again")


def test_more_weights_than_memory(gpu, monkeypatch):
    """Not even one layer at a time fits: what is there, and what is needed."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_MEMORY", str(4 << 20))
    with pytest.raises(DeviceError) as error:
        open_engine(build_model(n_embd=256, n_layer=2, n_vocab=2000), gpu)
    one_sentence(error, "weights need 10 MiB", "the device has 4 MiB", "take a smaller model or type")


def test_a_kernel_that_does_not_compile_is_named(gpu, monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_FAIL", "kernel=wkv7")
    engine = open_engine(build_model(**TINY), gpu)
    for _ in range(2):  # it is not remembered as compiled
        with pytest.raises(DeviceError) as error:
            engine.forward(tokens_of([7]), None, engine.new_state(), "last")
        one_sentence(error, "wkv7", "does not compile", "use another device")


def test_a_limit_that_is_too_small(gpu, monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_MAX_BINDING", "1000")
    with pytest.raises(DeviceError) as error:
        open_engine(build_model(**TINY), gpu)
    one_sentence(error, "expected at least 65536", "use another device")


def test_a_head_of_more_rows_than_a_grid_has_workgroups(monkeypatch):
    """One row for a workgroup, which `tune` tries, would be more than the 65535 that a device allows."""
    gpu = webgpu_devices.require("llvmpipe")
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_DISABLE", "subgroups")
    engine = open_engine(build_model(**TINY | dict(n_vocab=66000)), gpu)
    expected = engine.forward(tokens_of([65999]), None, engine.new_state(), "last")
    engine.set_tuning("workgroup=32,lanes=32,float_lanes=32")
    got = engine.forward(tokens_of([65999]), None, engine.new_state(), "last")
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max() and np.argmax(got) == np.argmax(expected)


def test_unknown_failures_name_the_variable(gpu, monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_FAIL", "gravity")
    with pytest.raises(InputError, match="RWKVNATIVE_WEBGPU_FAIL.*lost=N"):
        open_engine(build_model(**TINY), gpu)


ASK = """
from rwkvnative import _core
from rwkvnative.errors import DeviceError
assert all(d['backend'] != 'webgpu' for d in _core.devices())
print(_core.webgpu_unavailable())
"""


def test_no_vulkan_loader_is_one_sentence(tmp_path):
    (tmp_path / "libvulkan.so.1").write_bytes(b"no library")
    (tmp_path / "libvulkan.so").write_bytes(b"no library")
    got = in_new_process(ASK, LD_LIBRARY_PATH=str(tmp_path))
    assert "loader" in got and "driver" in got and 'device="cpu"' in got


def test_devices_prints_no_warnings():
    """Dawn's own words about a software adapter's limits are not for who asks for devices."""
    webgpu_devices.require("llvmpipe")
    done = subprocess.run([sys.executable, "-m", "rwkvnative", "devices"], capture_output=True, text=True)
    assert done.returncode == 0 and "llvmpipe" in done.stdout
    assert done.stderr == ""


def test_opening_is_refused_in_the_same_words():
    code = ASK + """
import sys; sys.path.insert(0, 'tests')
from rwkvnative import Model
try:
    Model(device='webgpu')
except DeviceError as error:
    print(error)
"""
    first, second = in_new_process(code, VK_DRIVER_FILES="/nonexistent.json").splitlines()
    assert second == f"[webgpu] {first}" or first in second
