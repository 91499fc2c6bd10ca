"""Every kernel file of csrc/metal: it parses with real address spaces as C++14, without a warning, and fits a threadgroup."""

from __future__ import annotations

import re
from collections import defaultdict

import build
import emulator
import numpy as np
import pytest
import toolchain
from msl import compiler

CSRC = toolchain.ROOT / "csrc"
FILES = sorted((CSRC / "metal" / "kernels").glob("*.metal"))
INCLUDE = (CSRC, CSRC / "metal" / "kernels")
# What every Apple GPU grants a threadgroup, and what the host sets for kernels with [[threadgroup(0)]]: a row of activations.
THREADGROUP_BYTES = 32768


def test_there_are_kernels():
    assert len(FILES) >= 18


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_address_spaces(path):
    assert compiler.check_address_spaces(path.read_text(), INCLUDE, path.name) == ""


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_threadgroup_memory(path):
    """Threadgroup variables are thread-local ones of the library, each named after its kernel."""
    library = compiler.compile_library(build.kernel_texts()[path.stem])
    used: dict[str, int] = defaultdict(int)
    for line in toolchain.command(["llvm-nm-19", "--print-size", "--defined-only", library]).splitlines():
        symbol = re.match(r"\w+ (\w+) [bBdDuVvTtWw] (_ZZ\w+E)(\w+)$", line)
        if symbol and not symbol.group(3).startswith("kIq"):
            used[symbol.group(2)] += int(symbol.group(1), 16)
    assert {kernel: size for kernel, size in used.items() if size > THREADGROUP_BYTES} == {}
    if path.stem in ("choice", "wkv7", "q4_k"):
        assert max(used.values()) > 1000  # they have some: the listing is read


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_constants_are_unsigned(path):
    """The host sets all function constants, as uint."""
    library = emulator.Library(build.kernel_texts()[path.stem])
    assert {type_ for _, type_ in library.constants.values()} == {"uint"}
    assert sorted(library.constants) == list(range(len(library.constants)))


# ---------------------------------------------------------------- ceiling.metal: what is measured is what is said to be done

OUT, IN, STEPS = 6, 5, 2  # BUFFER_OUT, BUFFER_IN, CONSTANT_ITEMS
CEILING = CSRC / "metal" / "kernels" / "ceiling.metal"


@pytest.fixture(scope="module")
def ceiling():
    constants = dict.fromkeys(range(14), 0) | {STEPS: 3}
    return emulator.Library(CEILING.read_text(), include=INCLUDE, name=CEILING.name, check=True, constants=constants)


def test_ceiling_memory(ceiling):
    """Every word is written by fill_words; read_words finds what it looks for wherever that is."""
    n = 2 * 3 * 256 * 4
    memory = np.zeros(n, np.uint32)
    ceiling.dispatch("fill_words", {OUT: memory}, groups=(2,), threads=(256,))
    assert np.array_equal(memory, (np.arange(n, dtype=np.uint64) * 2654435761 & 0xFFFFFFFF).astype(np.uint32))
    for at in (0, 767, 1024, 1535):
        found = np.zeros(4, np.uint32)
        memory = np.zeros((n // 4, 4), np.uint32)
        memory[at] = [1, 2, 3, 4]
        ceiling.dispatch("read_words", {IN: memory, OUT: found}, groups=(2,), threads=(256,))
        assert found.tolist() == [1, 2, 3, 4]


def test_ceiling_chain(ceiling):
    count = np.zeros(1, np.uint32)
    for _ in range(5):
        ceiling.dispatch("next_of_chain", {OUT: count}, groups=(1,), threads=(32,))
    assert count[0] == 5


@pytest.mark.parametrize("kernel, type_", [("multiply_add_f32", np.float32), ("multiply_add_f16", np.float16)])
def test_ceiling_arithmetic(ceiling, kernel, type_):
    out = np.zeros(2 * 256, np.float32)
    ceiling.dispatch(kernel, {OUT: out}, groups=(2,), threads=(256,))
    x = ((np.arange(256)[:, None] + np.arange(8)) % 64).astype(type_)
    for _ in range(3):
        x = (x.astype(np.float64) * 0.75 + 0.25).astype(type_)
    assert np.allclose(out.reshape(2, 256), 4 * x.astype(np.float32).sum(axis=1), rtol=1e-6, atol=0)


def test_ceiling_matrix(ceiling):
    matrices = np.random.default_rng(1).integers(-8, 8, (4, 8, 8)).astype(np.float16)
    out = np.zeros((2, 4, 8, 8, 8), np.float32)
    ceiling.dispatch("matrix_products", {IN: matrices, OUT: out}, groups=(2,), threads=(128,))
    left, right = matrices[:2].astype(np.float32), matrices[2:].astype(np.float32)
    for i in range(8):
        assert np.array_equal(out[:, :, i], np.broadcast_to(3 * left[i % 2] @ right[i // 2 % 2], (2, 4, 8, 8)))
