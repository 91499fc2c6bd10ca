"""The software device does what Metal does, and stops where Metal's validation would: host/cases.mm, a process a case."""

from __future__ import annotations

import os
import subprocess

import build
import pytest
import toolchain


@toolchain.once
def built_cases():
    build.software_device()
    source, target = toolchain.HERE / "host" / "cases.mm", toolchain.OWN / "cases"
    if not build.newer(target, [source, build.software_device()]):
        toolchain.command([build.CXX, "-std=c++20", "-O0", "-g", *build.warnings(), *build.OBJC, source, "-o", target, f"-L{toolchain.OWN}",
                           "-lsoft_metal", "-lmsl_runtime", f"-Wl,-rpath,{toolchain.OWN}", *build.OBJC_LIBRARIES])
    return target


@pytest.fixture(scope="module")
def program():
    return built_cases()


def run(program, name: str, **options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | build.environment(**{"report": "1", **options})
    return subprocess.run([program, name], env=environment, capture_output=True, text=True)


RIGHT = {
    "barrier": ["status 4", "value 12"],
    "not waited for": ["value 3\nvalue 12"],
    "event and handler": ["reached 1 value 7 handler 4"],
    "no copy": ["same 1", "deallocated 16384"],
    "heap": ["first 1 second 0 free 25344", "free 65536"],
    "archive": ["added 0 made 0", "added 1 made 1"],
    "timestamps": ["status 4", "later 1"],
    "constant of another type": ["function 0: function constant kFactor (0) is declared uint"],
    "no constant": ["function 0"],
    "bad source": ["library 0: program_source:2:", "undeclared identifier 'y'"],
}


@pytest.mark.parametrize("name", RIGHT)
def test_works(program, name):
    done = run(program, name)
    assert done.returncode == 0, done.stderr
    assert all(text in done.stdout for text in RIGHT[name]), done.stdout
    assert "0 objects alive at exit" in done.stderr
    assert "without pool" not in done.stderr


def test_runs_on_a_thread(program):
    """Often: the thread may be anywhere when the process ends."""
    for _ in range(30):
        done = run(program, "event and handler", timing="thread")
        assert "reached 1 value 7 handler 4" in done.stdout, done.stdout + done.stderr
        assert done.returncode == 0 and "0 objects alive at exit" in done.stderr, done.stderr


def test_missing_barrier(program):
    """Two dispatches of a concurrent encoder, the second reads what the first writes."""
    assert "status 4" in run(program, "barrier", check="1").stdout
    done = run(program, "no barrier", check="1")
    assert "status 5" in done.stdout and "earlier dispatch of the same encoder, no barrier in between" in done.stdout, done.stdout


def test_injected_error(program):
    assert "status 5 ordered by a test" in run(program, "barrier", fail="1:2").stdout


def test_leak(program):
    done = run(program, "leak")
    assert "1 objects alive at exit\nSoftBuffer: 1" in done.stderr, done.stderr


MISTAKES = {
    "commit twice": "commit twice",
    "commit while encoding": "commit with an open encoder",
    "wait before commit": "waitUntilCompleted before commit",
    "released too early": "buffer 1, which was released meanwhile",
    "private contents": "contents of a private buffer",
    "pages of malloc": "is malloc's, which Metal does not take",
    "unaligned pages": "is not at a page of 16384 bytes",
    "no pipeline": "a dispatch without a pipeline",
    "offset": "offset 2 is not a multiple of 4",
    "setBytes for results": "buffer 1 is written, setBytes gave it",
    "nothing bound": "nothing is bound to its buffer 1",
    "memory left over": "64 bytes are set as its threadgroup memory 0, which it has not",
    "serial barrier": "a memory barrier in a serial encoder",
    "too many threads": "2048 threads in a threadgroup, its pipeline allows 1024",
    "two encoders": "a new encoder while another one is open",
    "copy beyond the end": "copyFromBuffer: 256 bytes from 0 of 256 to 4 of 256",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_stops(program, name):
    done = run(program, name)
    assert done.returncode != 0 and MISTAKES[name] in done.stderr, done.stdout + done.stderr
