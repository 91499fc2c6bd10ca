"""The checker sees each kind of mistake, names its line, and is silent about the same kernel without it."""

from __future__ import annotations

import emulator
import numpy as np
import pytest

# A kernel in which threads exchange values through threadgroup and device memory; {0}, {1}, ... are where mistakes go in.
SOURCE = """#include <metal_stdlib>
using namespace metal;
kernel void f(device float* in [[buffer(0)]], device float* out [[buffer(1)]], constant uint& n [[buffer(2)]],
              threadgroup float* shared [[threadgroup(0)]], uint t [[thread_index_in_threadgroup]],
              uint g [[threadgroup_position_in_grid]], uint i [[thread_position_in_grid]]) {
  threadgroup float also[64];
  shared[t] = in[i];
  also[t] = shared[t] + 1;
  BARRIER
  float x = shared[63 - t] + also[(t + 1) % 64];
  SECOND
  shared[t] = x;
  LAST
  out[i] = simd_sum(x) + shared[t];
}
"""
CORRECT = {"BARRIER": "threadgroup_barrier(mem_flags::mem_threadgroup);", "SECOND": "threadgroup_barrier(mem_flags::mem_threadgroup);",
           "LAST": ""}
N = 128


def run(replaced: dict[str, str], seed: int = 0) -> np.ndarray:
    source = SOURCE
    for name, text in (CORRECT | {k: v for k, v in replaced.items() if k in CORRECT}).items():
        source = source.replace(name, text)
    for old, new in replaced.items():
        if old not in CORRECT:
            assert old in source
            source = source.replace(old, new, 1)
    out = np.zeros(N, np.float32)
    emulator.Library(source, check=True, name="f.metal").dispatch(
        "f", {0: np.arange(N, dtype=np.float32), 1: out, 2: np.uint32([N])}, groups=(2,), threads=(64,), memory={0: 256}, seed=seed)
    return out


@pytest.mark.parametrize("seed", emulator.SCHEDULES)
def test_silent_where_all_is_well(seed):
    x = np.arange(N, dtype=np.float32).reshape(2, 64)
    x = x[:, ::-1] + np.roll(x, -1, axis=1) + 1
    assert np.array_equal(run({}, seed).reshape(2, 64), (x.reshape(4, 32).sum(1).repeat(32) + x.ravel()).reshape(2, 64))


MISTAKES = {
    "no barrier before reading": ({"BARRIER": ""}, "uninitialised threadgroup memory at f.metal:10"),
    "no barrier before reading, after a first round": (
        {"BARRIER": "threadgroup_barrier(mem_flags::mem_threadgroup); shared[t] = in[i] + 1;"}, r"data race \(\w+ after \w+\) at f.metal:"),
    "no barrier before writing again": ({"SECOND": ""}, r"data race \((write after read|read after write)\) at f.metal:1[02]"),
    "a barrier for the wrong memory": ({"BARRIER": "threadgroup_barrier(mem_flags::mem_device);"}, "data race .read after write. at f.metal:10"),
    "a barrier for no memory": ({"BARRIER": "threadgroup_barrier(mem_flags::mem_none);"}, "data race .read after write. at f.metal:10"),
    "a barrier of the simdgroup only": (
        {"BARRIER": "simdgroup_barrier(mem_flags::mem_threadgroup);"}, "f.metal:10"),
    "a barrier that some threads skip": (
        {"BARRIER": "if (t < 32) threadgroup_barrier(mem_flags::mem_threadgroup);"}, "divergent synchronisation|different threadgroup_barriers|f.metal:10"),
    "threads that leave early": ({"BARRIER": "if (t == 5) return; threadgroup_barrier(mem_flags::mem_threadgroup);"}, "divergent synchronisation"),
    "lanes that leave before a sum": ({"LAST": "if (t % 2) return;"}, "returned before the SIMD-group function at line 14"),
    "a sum in a branch": ({"LAST": "if (t % 2) x = simd_sum(x);"}, "execute different SIMD-group functions"),
    "a write by two threads": ({"out[i] =": "out[i / 2] ="}, "data race .write after write. at f.metal:14"),
    "a write by two threadgroups": ({"out[i] =": "out[t] ="}, r"last written by thread \d+ of threadgroup 0"),
    "a read of another threadgroup's result": (
        {"LAST": "out[i] = 1; threadgroup_barrier(mem_flags::mem_device); if (g == 1) x += out[0];"}, "data race .read after write. at f.metal:13"),
    "a read beyond the buffer": ({"in[i];": "in[i + 1];"}, "out-of-bounds read at f.metal:7.*thread 63"),
    "a write before the buffer": ({"out[i] =": "out[(int)i - 1] ="}, "out-of-bounds write at f.metal:14.*thread 0"),
    "a write beyond threadgroup memory": ({"shared[t] = x;": "shared[t + 1] = x;"}, "out-of-bounds write at f.metal:12"),
    "an index beyond an array": ({"also[t] =": "also[t + 1] ="}, "array index out of bounds at f.metal:8"),
    "threadgroup memory that nobody wrote": ({"shared[t] = in[i];": "if (t != 9) shared[t] = in[i];"}, "uninitialised threadgroup memory at f.metal:8.*thread 9"),
    "a misaligned vector": ({"in[i];": "dot(*(device float4*)(in + 1), float4(1.0f));"}, "misaligned or null access at f.metal:7"),
    "a shift by too much": ({"in[i];": "float(1u << (n + t));"}, "shift out of range at f.metal:7"),
    "a division by zero": ({"in[i];": "float(n / t);"}, "division by zero at f.metal:7"),
    "a float beyond int": ({"in[i];": "float(int(in[i] * 1e10f));"}, "float-to-integer overflow at f.metal:7"),
    "an atomic beyond the buffer": (
        {"LAST": "atomic_fetch_add_explicit((device atomic_uint*)&in[i + 128], 1u, memory_order_relaxed);"}, "out-of-bounds write"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_sees(mistake):
    replaced, message = MISTAKES[mistake]
    for seed in emulator.SCHEDULES[:2]:
        with pytest.raises(emulator.KernelError, match=message):
            run(replaced, seed)


def test_dispatches_without_a_barrier_in_between():
    """Two dispatches of a concurrent encoder: the second reads what the first wrote."""
    library = emulator.Library("""#include <metal_stdlib>
kernel void copy(device const float* in [[buffer(0)]], device float* out [[buffer(1)]], uint i [[thread_position_in_grid]]) {
  out[i] = in[i];
}""", check=True, name="copy.metal")
    a, b, c = (np.zeros(64, np.float32) for _ in range(3))
    start = emulator.mark()
    library.dispatch("copy", {0: a, 1: b}, threads=(64,), ordered=start)
    library.dispatch("copy", {0: a, 1: c}, threads=(64,), ordered=start)  # reads only what nobody writes
    for buffers, what in (({0: b, 1: c}, "read after write"), ({0: a, 1: b}, "write after write"), ({0: c, 1: a}, "read after write")):
        with pytest.raises(emulator.KernelError, match=f"{what}.*earlier dispatch of the same encoder"):
            library.dispatch("copy", buffers, threads=(64,), ordered=start)
    barrier = emulator.mark()
    library.dispatch("copy", {0: b, 1: c}, threads=(64,), ordered=barrier)
    with pytest.raises(emulator.KernelError, match="write after read.*earlier dispatch"):
        library.dispatch("copy", {0: a, 1: b}, threads=(64,), ordered=barrier)
