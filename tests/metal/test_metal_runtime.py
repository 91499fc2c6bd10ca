"""The emulator runs kernels as MSL has it: a few kernels of its own (kernels/), on four schedules, against numpy."""

from __future__ import annotations

import functools

import emulator
import numpy as np
import pytest
import toolchain

KERNELS = toolchain.HERE / "kernels"


@functools.cache
def load(name: str, check: bool = False) -> emulator.Library:
    constants = {0: True, 3: 2} if name == "functions" else {}
    path = KERNELS / f"{name}.metal"
    return emulator.Library(path.read_text(), check=check, constants=constants, name=path.name)


schedules = pytest.mark.parametrize("seed", emulator.SCHEDULES)
modes = pytest.mark.parametrize("check", [False, True], ids=["run", "check"])


@schedules
@modes
def test_gemm(seed, check):
    rng = np.random.default_rng(1)
    m, n, k = 70, 45, 64
    a, b = (rng.uniform(-1, 1, (rows, k)).astype(np.float16) for rows in (m, n))
    c = np.full((m, n), np.nan, np.float32)
    load("gemm", check).dispatch("gemm_f16", {0: np.array([m, n, k], np.uint32), 1: a, 2: b, 3: c}, groups=(2, 3), threads=(128,),
                                 memory={0: 2048}, seed=seed)
    # 64 products below one, accumulated in float32: a rounding each of 6e-8 of at most 64.
    assert np.abs(c - a.astype(np.float64) @ b.astype(np.float64).T).max() < 1e-5


@schedules
def test_places(seed):
    grid, group = np.array([10, 4, 2]), np.array([5, 2, 2])
    out = np.zeros((*grid[::-1], 3, 4), np.uint32)
    load("functions").dispatch("places", {0: out}, groups=tuple(grid // group), threads=tuple(group), seed=seed)
    z, y, x = np.meshgrid(*(np.arange(n) for n in grid[::-1]), indexing="ij")
    here = np.stack([x, y, z], -1)
    inside = here % group
    index = (inside[..., 2] * 2 + inside[..., 1]) * 5 + inside[..., 0]
    assert np.array_equal(out[..., 0, :3], here) and np.array_equal(out[..., 0, 3], index)
    assert np.array_equal(out[..., 1, :3], here // group)
    assert np.array_equal(out[..., 1, 3], index % 32 | index // 32 << 8 | 32 << 16 | 1 << 24)
    assert np.array_equal(out[..., 2, :3], inside) and (out[..., 2, 3] == 2 * 100 + 5).all()


@schedules
def test_simdgroup_functions(seed):
    x = np.random.default_rng(2).integers(-50, 50, 32).astype(np.float32)
    out = np.full((13, 32), np.nan, np.float32)
    load("functions").dispatch("simd", {0: x, 1: out}, threads=(32,), seed=seed)
    lanes = np.arange(32)
    inclusive = np.cumsum(x)
    expected = [x.sum(), x.max(), x.min(), x[lanes ^ 5], np.r_[x[3:], x[29:]], np.r_[x[:3], x[:-3]], x[::-1], x[7], x[0],
                inclusive - x, inclusive, 1, 1 + 4 * (lanes == 0)]
    for row, want in zip(out, expected):
        assert np.array_equal(row, np.broadcast_to(want, 32).astype(np.float32))


@pytest.mark.parametrize("kernel, dtype", [("convert_half", np.float16), ("convert_uchar", np.uint8), ("convert_int", np.int32)])
def test_conversions(kernel, dtype):
    x = np.random.default_rng(3).integers(0, 200, (7, 4)).astype(dtype)
    out = np.zeros((7, 4, 4), np.float32)
    load("functions").dispatch(kernel, {0: x, 1: out}, groups=(7,), threads=(7,), exact=True)
    value = x.astype(np.float32)
    assert np.array_equal(out[:, 0], value) and np.array_equal(out[:, 1], value)
    assert np.array_equal(out[:, 2], 2 * np.c_[value[:, :3], np.ones(7)])
    assert np.array_equal(out[:, 3], -value[:, [3] * 4])


@schedules
@modes
def test_atomics(seed, check):
    x = np.random.default_rng(4).integers(0, 1000, 256, dtype=np.uint32)
    out, total = np.zeros(17, np.uint32), np.zeros(1, np.float32)
    load("functions", check).dispatch("histogram", {0: x, 1: out, 2: total}, groups=(4,), threads=(64,), seed=seed)
    assert np.array_equal(out[:16], np.bincount(x % 16, minlength=16))
    assert out[16] == x[::64].max() and total[0] == 128


def test_dispatch_threads():
    out = np.full(100, 7, np.uint32)
    load("functions").dispatch("count", {0: out}, groups=(70,), threads=(32,), exact=True)
    assert (out[:70] == 70).all() and (out[70:] == 7).all()


@schedules
@pytest.mark.parametrize("threads", [1, 31, 32, 100, 1024])
def test_barriers(seed, threads):
    out = np.zeros(threads, np.uint32)
    load("functions").dispatch("round_trip", {0: out, 1: np.uint32([5])}, threads=(threads,), memory={0: 4096}, seed=seed)
    assert np.array_equal(out, (np.arange(threads) + 5) % threads)


def test_workers_share_a_grid():
    """More than one operating system thread; each has its own copy of threadgroup variables."""
    x = np.arange(64 * 256, dtype=np.uint32)
    out, total = np.zeros(17, np.uint32), np.zeros(1, np.float32)
    load("functions").dispatch("histogram", {0: x, 1: out, 2: total}, groups=(256,), threads=(64,), workers=2)
    assert (out[:16] == 1024).all()


@pytest.mark.parametrize("arguments, message", [
    (dict(threads=(65,)), "65 threads per threadgroup, expected 1..64"),
    (dict(threads=(0,)), "0 threads per threadgroup"),
    (dict(threads=(8,), groups=(0,)), "empty grid"),
    (dict(threads=(8,), memory={3: 40000}), "40000 bytes of threadgroup memory, at most 32768"),
    (dict(threads=(8,), memory={3: 8}), "is not a multiple of 16"),
    (dict(threads=(8,), buffers={}), "nothing is bound to buffer index 0"),
])
def test_refused_dispatches(arguments, message):
    arguments = {"buffers": {0: np.zeros(100, np.uint32)}, **arguments}
    with pytest.raises(emulator.KernelError, match=message):
        load("functions").dispatch("count", arguments.pop("buffers"), **arguments)


def test_unset_threadgroup_memory_and_unknown_names():
    out = np.zeros(8, np.uint32)
    with pytest.raises(emulator.KernelError, match="length of threadgroup memory 0 is not set"):
        load("functions").dispatch("round_trip", {0: out, 1: out}, threads=(8,))
    with pytest.raises(emulator.KernelError, match="no kernel nothing"):
        load("functions").dispatch("nothing", {}, threads=(8,))
    with pytest.raises(emulator.KernelError, match="no function constant has index 9"):
        emulator.Library("kernel void f() {}", constants={9: 1})
