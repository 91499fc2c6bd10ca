"""The training kernels of wkv7 (python/tools/wkv7_train.cu), run on the CPU thread by thread, against float64 numpy."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

SOURCE = Path(__file__).with_name("wkv7_train_emulation.cpp")
COMPILER = shutil.which(os.environ.get("CXX", "g++"))
pytestmark = pytest.mark.skipif(COMPILER is None or os.name == "nt", reason="needs a C++20 compiler named by CXX, or g++, on a POSIX system")
B, T, H, N, CHUNK = 2, 32, 2, 64, 16


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    target = tmp_path_factory.mktemp("wkv7") / "emulation.so"
    subprocess.run([COMPILER, "-std=c++20", "-O1", "-shared", "-fPIC", "-pthread", "-Wno-unknown-pragmas", "-o", str(target), str(SOURCE)], check=True)
    return ctypes.CDLL(str(target))


@pytest.fixture(scope="module")
def inputs():
    """r, w, k, v, a, b as RWKV-7 makes them: decays in (0.545, 1), a = -kk of unit length, b = kk * iclr."""
    rng = np.random.default_rng(3)
    draw = lambda: rng.standard_normal((B, T, H, N)).astype(np.float32)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    kk = draw()
    kk /= np.linalg.norm(kk, axis=-1, keepdims=True)
    return [draw(), np.exp(-0.606531 * sigmoid(draw())).astype(np.float32), draw(), draw(), -kk, (kk * sigmoid(draw())).astype(np.float32)]


def reference(r, w, k, v, a, b):
    """y in float64, token by token."""
    S, out = np.zeros((B, H, N, N)), []
    for t in range(T):
        sa = np.einsum("bhij,bhj->bhi", S, a[:, t])
        S = S * w[:, t, :, None, :] + sa[..., None] * b[:, t, :, None, :] + v[:, t, :, :, None] * k[:, t, :, None, :]
        out.append(np.einsum("bhij,bhj->bhi", S, r[:, t]))
    return np.stack(out, 1)


def call(function, *arrays):
    function(B, T, H, *(x.ctypes.data_as(ctypes.c_void_p) for x in arrays))


def forward(library, inputs):
    y, sa = np.full_like(inputs[0], np.nan), np.full_like(inputs[0], np.nan)
    checkpoints = np.full((B, H, T // CHUNK, N, N), np.nan, np.float32)
    call(library.emulated_forward, *inputs, y, sa, checkpoints)
    return y, sa, checkpoints


def test_forward(library, inputs):
    y, _, checkpoints = forward(library, inputs)
    expected = reference(*(x.astype(np.float64) for x in inputs))
    assert np.linalg.norm(y - expected) < 1e-5 * np.linalg.norm(expected)       # float32 sums of 64
    assert np.isfinite(checkpoints).all()


def test_backward(library, inputs):
    """Directional derivatives by central differences in float64; the undone state of a chunk costs a few digits of float32."""
    _, sa, checkpoints = forward(library, inputs)
    rng = np.random.default_rng(4)
    dy = rng.standard_normal(inputs[0].shape).astype(np.float32)
    gradients = [np.full_like(inputs[0], np.nan) for _ in range(6)]
    call(library.emulated_backward, *inputs, sa, checkpoints, dy, *gradients)
    exact = [x.astype(np.float64) for x in inputs]
    for index, name in enumerate("rwkvab"):
        direction, step = rng.standard_normal(dy.shape), 1e-5
        values = [((reference(*exact[:index], exact[index] + sign * step * direction, *exact[index + 1:])) * dy).sum() for sign in (1, -1)]
        numeric = (values[0] - values[1]) / (2 * step)
        got = float((gradients[index] * direction).sum())
        assert abs(got - numeric) < 1e-4 * np.linalg.norm(gradients[index]), name
