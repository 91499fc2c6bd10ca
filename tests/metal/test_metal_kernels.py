"""Every kernel file of csrc/metal: it parses with real address spaces as C++14, without a warning, and fits a threadgroup."""

from __future__ import annotations

import re
from collections import defaultdict

import emulator
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
    library = compiler.compile_library(path.read_text(), include=INCLUDE, name=path.name)
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
    library = emulator.Library(path.read_text(), include=INCLUDE, name=path.name)
    assert {type_ for _, type_ in library.constants.values()} == {"uint"}
    assert sorted(library.constants) == list(range(len(library.constants)))
