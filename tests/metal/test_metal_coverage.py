"""No op, type or kernel is forgotten: each was compared with the CPU to run on every schedule, and under the checker.

What ran is what the software device wrote down while emulated/ops.py compared it (SOFT_METAL_DISPATCHES).
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from pathlib import Path

import build
import emulator
import pytest
import toolchain
from background import waits_for
from emulated import jobs

# The kernels of each op of csrc/core/plan.h, and of what is read out. Those of a matrix come once for each type.
OF_A_MATRIX = {"embed", "matvec_1x1", "matvec_2x1", "matvec_1x4", "mix_linear_1", "mix_linear_2", "matmul_half", "matmul_float"}
MIXES = {"mix_linear_1", "mix_linear_2"}
OPS = {
    "EmbedOp": {"embed"},
    "ShiftMixOp": {"shift_mix"} | MIXES,
    "LinearOp": OF_A_MATRIX - {"embed"},
    "Wkv7Op": {f"wkv7_{keys}{lora}" for keys in (16, 64) for lora in ("", "_f32", "_f16", "_bf16")},
    "HeadOp": {"norm"} | OF_A_MATRIX - MIXES - {"embed"},
}
READOUTS = {"add_bias", "argmax", "top_k"}
# What measures a device's ceilings computes nothing of a model: test_metal_kernels.py holds each against numpy.
CEILING = "ceiling"
FLOATS = {"f32", "f16", "bf16"}


@functools.cache
def kernels() -> dict[str, set[str]]:
    """The kernels of each file of csrc/metal/kernels, as the emulator's compiler found them."""
    return {file: set(emulator.Library(text).kernels) for file, text in build.kernel_texts().items()}


def types() -> set[str]:
    """The files of a type: those that have a kernel of a matrix."""
    return {file for file, names in kernels().items() if names & OF_A_MATRIX}


def test_ops_are_those_of_the_plan():
    text = (toolchain.ROOT / "csrc/core/plan.h").read_text()
    assert re.search(r"using Op = std::variant<([^>]*)>", text).group(1).split(", ") == list(OPS)


def test_types_are_those_of_the_table():
    from rwkvnative import _core

    assert types() == {d["name"].lower() for d in _core.dtypes()}


def test_every_kernel_is_of_an_op():
    assert set().union(*(names for file, names in kernels().items() if file != CEILING)) == set().union(*OPS.values(), READOUTS)


def test_ceilings_have_their_own_tests():
    text = (toolchain.HERE / "test_metal_kernels.py").read_text()
    assert {name for name in kernels()[CEILING] if f'"{name}"' not in text} == set()


def test_every_type_has_every_kernel_of_a_matrix():
    """A float type is multiplied in the tiles that hold its values exactly: F16 in halves, the others in floats."""
    for file in types():
        without = {"matmul_float"} if file == "f16" else {"matmul_half"} if file in FLOATS else set()
        assert kernels()[file] == OF_A_MATRIX - without, file


def ran(path: Path) -> dict[str, dict[str, set[str]]]:
    """Schedules by shape by kernel ("file function")."""
    result: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for line in path.read_text().splitlines():
        kernel, seed, shape = line.split("\t")
        result[kernel][shape].add(seed)
    return result


@pytest.mark.parametrize("job, schedules", [
    pytest.param(jobs.four_schedules, set("0123"), id="to run", marks=waits_for(jobs.four_schedules)),
    pytest.param(jobs.every_access_checked, set("1"), id="with checks", marks=waits_for(jobs.every_access_checked)),
])
def test_every_kernel_ran(background, job, schedules):
    """In at least two shapes (grid and function constants), each on every schedule."""
    found = ran(background.result(job))
    expected = {f"{file} {function}" for file, functions in kernels().items() for function in functions if file != CEILING}
    assert set(found) == expected
    shapes = {kernel: [s for s, seeds in by_shape.items() if seeds >= schedules] for kernel, by_shape in found.items()}
    assert {kernel: len(s) for kernel, s in shapes.items() if len(s) < 2} == {}
