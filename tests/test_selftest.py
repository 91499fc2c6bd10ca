"""`rwkvnative selftest` on the CPU: what it prints, its exit status, and that it notices a device that computes something else.

On software GPUs the same checks run in tests/metal, and here for WebGPU a few of them.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import webgpu_devices
from typer.testing import CliRunner

from rwkvnative import _core, selftest
from rwkvnative.cli import app


def invoke(*args: str):
    return CliRunner().invoke(app, ["selftest", *args])


def test_every_type_in_the_table_is_tried():
    names = {name.partition(",")[0] for name, *_ in selftest._checks("cpu")}
    assert {d["name"] for d in _core.dtypes()} <= names


def test_the_cpus_fast_kernels_pass():
    result = invoke("--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "MISMATCH" not in result.stdout and "FAILED" not in result.stdout
    assert "all 36 checks passed" in result.stdout


def test_json_of_some_checks():
    result = invoke("--device", "cpu", "--only", "Q4_K", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0 and report["ok"] is True
    assert (report["device"], [c["name"] for c in report["checks"]]) == ("cpu", ["Q4_K, float32", "Q4_K, as the device likes it"])
    assert 0 < report["checks"][0]["error"] < 1e-5 < report["checks"][1]["error"] < selftest.BOUND_AUTO


def test_only_that_fits_nothing_is_an_error():
    result = invoke("--device", "cpu", "--only", "Q9")
    assert result.exit_code == 2 and "--only 'Q9'" in result.stderr


@pytest.mark.parametrize("tensor", ["token_embd.weight", "blk.1.time_mix_r_k.weight", "blk.0.time_mix_w2.weight",
                                    "blk.1.channel_mix_lerp_k.weight", "output_norm.bias"])
def test_a_device_with_one_wrong_tensor_is_noticed(monkeypatch, tensor):
    """The device's copy of one tensor is read two values off: the size of mistake that a wrong offset makes."""

    class WrongPair(selftest._Pair):
        def __init__(self, model, device, numerics):
            super().__init__(model, device, numerics)
            data = model.data.copy()
            at, n_bytes = next((at, n) for name, _, _, at, n in model.tensors if name == tensor)
            data[at : at + n_bytes] = np.roll(data[at : at + n_bytes], 8)
            self.device = _core.Engine("rwkv7", model.config, model.tensors, data, device, 0, numerics)

    monkeypatch.setattr(selftest, "_Pair", WrongPair)
    result = invoke("--device", "cpu", "--only", "Q8_0, float32", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [c["ok"] for c in report["checks"]] == [False]


def test_a_device_without_logits_is_a_verdict(monkeypatch):
    """Greedy decoding ends where logits are not finite."""

    class NanPair(selftest._Pair):
        def __init__(self, model, device, numerics):
            super().__init__(model, device, numerics)
            data = model.data.copy()
            at = next(at for name, _, _, at, _ in model.tensors if name == "output_norm.bias")
            data[at : at + 4] = np.frombuffer(np.float32(np.nan).tobytes(), np.uint8)
            self.device = _core.Engine("rwkv7", model.config, model.tensors, data, device, 0, numerics)

    monkeypatch.setattr(selftest, "_Pair", NanPair)
    result = invoke("--device", "cpu", "--only", "greedy", "--json")
    assert result.exit_code == 1, result.output
    assert [(c["ok"], c["error"]) for c in json.loads(result.stdout)["checks"]] == [(False, 24.0)]


def test_a_device_that_fails_is_a_verdict(monkeypatch):
    def fail(*_: object):
        raise selftest.RwkvError("[test] the device went away")

    monkeypatch.setattr(selftest, "_batch", fail)
    result = invoke("--device", "cpu", "--only", "several")
    assert result.exit_code == 1
    assert "FAILED" in result.stdout and "1 of 1 checks failed" in result.stdout
    assert "the device went away" in result.stderr


def test_webgpu(monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
    result = invoke("--device", webgpu_devices.require("llvmpipe"), "--only", "hidden")
    assert result.exit_code == 0, result.output
    assert "all 1 checks passed" in result.stdout
