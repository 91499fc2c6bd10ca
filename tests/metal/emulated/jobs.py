"""What runs on the software device: pytest and the package's command, each in a process of its own.

A process must end with no Objective-C object alive and none ever autoreleased outside of a pool.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import build
import toolchain

HERE = Path(__file__).resolve().parent


def run(arguments: list[str | Path], folder: Path, **options: str) -> str:
    """A Python process with the package on the software device (options: device/soft.h); what it printed."""
    done = subprocess.run([sys.executable, "-m", *map(str, arguments)], cwd=folder, capture_output=True, text=True,
                          env=build.python_environment(**{"report": "1", **options}) | {"RWKVNATIVE_TEST_DEVICES": "metal:0"})
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "software Metal device: 0 objects alive at exit" in output, output
    assert "autorelease called without pool" not in output, output
    return output


def run_tests(files: list[str | Path], folder: Path, *arguments: str, **options: str) -> None:
    # capture=sys: what the Objective-C runtime says of pools goes past it.
    output = run(["pytest", "-p", "no:cacheprovider", "--capture=sys", "-q", "-x", *files, *arguments], folder, **options)
    assert re.search(r"\d+ passed", output), output


def emulated(file: str, *arguments: str, **options: str) -> None:
    """A test file of this folder."""
    run_tests([HERE / file], HERE, "--rootdir", str(HERE), "-c", "/dev/null", *arguments, **options)


# ---- every op against the CPU. Which kernels ran: the software device writes it down (test_metal_coverage.py).


def dispatches(check: bool) -> Path:
    return build.build_of(toolchain.ROOT) / f"dispatches-{check:d}.txt"


def four_schedules() -> Path:
    emulated("ops.py", dispatches=str(dispatches(False)))
    return dispatches(False)


def every_access_checked() -> Path:
    emulated("ops.py", check="1", dispatches=str(dispatches(True)))
    return dispatches(True)


# ---- the package's own tests, as they run on every other device

SUITES = ["test_parity.py", "test_parity_model.py", "test_parity_state.py", "test_parity_readouts.py", "test_parity_errors.py", "test_batch.py"]

# Not emulated, for the time it would take; each says what stands for it.
LEFT_OUT = [
    "int8",  # Metal has one kind of activations
    "test_every_type",  # ops.py, with every schedule
    "test_chunks_equal_token_by_token",  # 300 tokens one by one; instead:
    "(test_chunks_through_the_public_state and not 17)",
    "test_one_long_call_against_the_oracle",  # 1100 tokens; ops.py's test_long_prefill
    "test_scratch_is_bounded_and_reported",  # thousands of rows; so do the next two
    "test_submits_are_full",
    "test_more_sequences_than_a_submit_takes",
    "test_random_shapes",  # as many as Hypothesis likes; ops.py's SHAPES
    "(test_official_package and 48)",
    "(test_decoding_crowds and not 31)",
    "(test_lengths and not oracle)",
    "test_python_threads_on_one_engine",  # model.py has a shorter one
    "test_replay_is_identical",  # ops.py repeats everything, bit for bit
    "(test_the_number_of_threads and not 3)",  # of the CPU
]


def parity(part: int) -> None:
    """Every second suite, so that two processes share them."""
    files = [toolchain.ROOT / "tests" / suite for suite in SUITES[part::2]]
    run_tests(files, toolchain.ROOT, "-k", " and ".join(f"not {name}" for name in LEFT_OUT))


def selftest() -> None:
    """What a Mac's owner runs first. (All of its checks take half a minute of emulation: some.)"""
    for checks in ("Q4_K, as", "sorted candidates", "states"):
        assert "checks passed" in run(["rwkvnative", "selftest", "--device", "metal", "--only", checks], HERE)
