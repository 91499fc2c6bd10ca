"""The engine on the software device: emulated/*.py, each in a process of its own, in several modes.

A process ends with no Objective-C object alive and none ever autoreleased outside of a pool. Kernels run unmodified, compiled
by msl/; csrc/metal is compiled by clang against GNUstep (build.py).
"""

from __future__ import annotations

import re
import subprocess
import sys

import build
import pytest
import toolchain

EMULATED = toolchain.HERE / "emulated"


@pytest.fixture(scope="module")
def package() -> None:
    build.extension()


def run(file: str, *arguments: str, package: str = "package", **options: str) -> str:
    """A test file of emulated/ in the given mode; what pytest printed."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-x", "--rootdir", str(EMULATED), "-c", "/dev/null",
               str(EMULATED / file), *arguments]
    environment = build.python_environment(name=package, **{"report": "1", **options})
    done = subprocess.run(command, env=environment, cwd=EMULATED, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert re.search(r"\d+ passed", output), output
    assert "0 objects alive at exit" in output, output
    assert "autorelease called without pool" not in output, output
    return output


def test_ops_on_four_schedules(package):
    run("ops.py")


def test_ops_with_every_access_checked(package):
    run("ops.py", "-k", "types or shapes or long_prefill or variants", check="1")


def test_model(package):
    run("model.py", timing="thread", workers="2")


@pytest.mark.parametrize("options", [{}, {"timing": "thread"}, {"device": "intel"}, {"device": "none"}], ids=str)
def test_faults(package, options):
    run("faults.py", **options)


def test_own_suite(package):
    """The package's own parity tests, as they run on every other device."""
    environment = build.python_environment() | {"RWKVNATIVE_TEST_DEVICES": "metal:0"}
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "tests/test_parity_state.py",
                           "tests/test_parity_readouts.py"], env=environment, cwd=toolchain.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
