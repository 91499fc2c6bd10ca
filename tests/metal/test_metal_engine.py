"""The engine on the software device: emulated/*.py, each in a process of its own, in several modes.

A process ends with no Objective-C object alive and none ever autoreleased outside of a pool. Kernels run unmodified, compiled
by msl/; csrc/metal is compiled by clang against GNUstep (build.py).
"""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import build
import pytest
import toolchain

EMULATED = toolchain.HERE / "emulated"


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


def parity() -> None:
    """The package's own parity tests, as they run on every other device."""
    environment = build.python_environment() | {"RWKVNATIVE_TEST_DEVICES": "metal:0"}
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "tests/test_parity_readouts.py"],
                          env=environment, cwd=toolchain.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


JOBS = {
    "every access checked": lambda: run("ops.py", "-k", "types or shapes or long_prefill or variants", check="1"),
    "four schedules": lambda: run("ops.py"),
    "the embedded model": lambda: run("model.py", timing="thread", workers="2"),
    "streaming": lambda: run("streaming.py"),
    "streaming, every access checked": lambda: run("streaming.py", "-k", "profile", check="1"),
    "streaming on a thread": lambda: run("streaming.py", "-k", "same_bits or errors", timing="thread", sampling="none"),
    "streaming on a small device": lambda: run("streaming.py", "-k", "a_model", working_set="8000000"),
    "kernels compiled before": lambda: run("compiled.py"),
    "faults": lambda: run("faults.py"),
    "faults on a thread": lambda: run("faults.py", timing="thread"),
    "faults on an Intel GPU": lambda: run("faults.py", device="intel"),
    "faults without a GPU": lambda: run("faults.py", device="none"),
    "the package's parity tests": parity,
}


@pytest.fixture(scope="module")
def results(request):
    """The chosen jobs under way, two at a time."""
    build.extension()
    chosen = [item.callspec.params["job"] for item in request.session.items if item.module is request.module]
    with ThreadPoolExecutor(2) as pool:
        yield {job: pool.submit(JOBS[job]) for job in chosen}


@pytest.mark.parametrize("job", JOBS)
def test_engine(results, job):
    results[job].result()
