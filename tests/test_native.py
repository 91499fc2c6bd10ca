"""Builds and runs tests/native: the CPU kernels of every instruction set against the reference kernels, the threads of jobs, and how
streamed bytes are shared out.

Kernels natively for this processor's sets; for arm64 with Debian's cross compiler under qemu, which .ci/run installs. Elsewhere a
missing cross compiler skips (an arm64 machine runs its own kernels natively); in CI on x86-64 it is a failure.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "native"
CROSS_COMPILER = "aarch64-linux-gnu-g++"
EMULATOR = "qemu-aarch64"


def configure(folder: Path, *options: str) -> None:
    run(["cmake", "-S", str(SOURCE), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", *options])


def build(folder: Path, name: str) -> str:
    """Builds a program of a configured folder: its path."""
    run(["cmake", "--build", str(folder), "--config", "Release", "-j2", "--target", name])
    return str(next(p for p in (folder / name, folder / f"{name}.exe", folder / "Release" / f"{name}.exe") if p.exists()))


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/native, configured for this machine; with RWKVNATIVE_OBJECTS, the folder of a build of the package, on its kernels."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    made = tmp_path_factory.mktemp("native")
    objects = os.environ.get("RWKVNATIVE_OBJECTS")
    configure(made, *([f"-Dobjects={objects}"] if objects else []))
    return made


def check(command: list[str], at_least: int = 2000) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"^(\d+) checks passed$", done.stdout, re.M).group(1)) >= at_least
    return done.stdout


def test_cpu_kernels(folder):
    from rwkvnative import _core

    output = check([build(folder, "cpu_kernels_test")])
    assert output.splitlines()[:-1] == _core.cpu_kernels()


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="emulated on x86-64 Linux only")
def test_arm64_kernels(tmp_path):
    if not (shutil.which(CROSS_COMPILER) and shutil.which(EMULATOR) and shutil.which("cmake")):
        if os.environ.get("CI"):
            pytest.fail(f"{CROSS_COMPILER}, {EMULATOR} and cmake are needed")
        pytest.skip(f"{CROSS_COMPILER}, {EMULATOR} or cmake is not installed")
    configure(tmp_path, "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_CXX_COMPILER={CROSS_COMPILER}",
              "-DCMAKE_EXE_LINKER_FLAGS=-static")
    assert "neon-dotprod" in check([EMULATOR, build(tmp_path, "cpu_kernels_test")])


def test_workers(folder):
    """Jobs on threads that come and go, also where the system has none to give."""
    program = build(folder, "workers_test")
    check([program], 7)
    if sys.platform == "linux":
        check([program, "scarce"], 3)


def test_carry_shares(folder):
    """How the bytes of a streamed layer are shared out among the kernels that carry them."""
    check([build(folder, "carry_shares_test")], 10)
