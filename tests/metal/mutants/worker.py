"""Runs seeded bugs, each in a process of its own: worker.py TASKS.json prints how each was noticed, as JSON.

A task is a Mutant (mutants/__init__.py) as a dictionary, with "package", the folder of the package to run: for a bug of the
host another one for each. A bug of a kernel is seeded when the software device compiles. Before, each case runs without a bug.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np  # noqa: F401  (once, for all children)

METAL = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(METAL.parent), str(METAL)]

import build  # noqa: E402
from msl import compiler  # noqa: E402
from msl.tokens import MslError  # noqa: E402

CHECK = os.environ.get("SOFT_METAL_CHECK") == "1"


def expected(package: str, case: str) -> object:
    """The CPU's numbers."""
    sys.path.insert(0, package)
    from mutants import cases

    return [] if case == "fault" else cases.case(case)("cpu")


def notice(task: dict[str, str], numbers: list[np.ndarray], files: dict[str, str]) -> str:
    """How a bug was noticed; of a clean package the same, which should be nothing."""
    sys.path.insert(0, task["package"])
    from emulated.soft import SoftDevice
    from mutants import cases

    soft = SoftDevice()
    seeded: list[str] = []
    invalid: list[str] = []

    def compile_mutant(source: str) -> Path | None:
        if seeded or task["old"] not in source or task["file"] not in ("", files[source]):
            return None
        seeded.append(files[source])
        try:
            return compiler.compile_library(source.replace(task["old"], task["new"], 1), check=CHECK)
        except MslError as error:
            invalid.append(f"{error}")
            raise

    of_a_kernel = "old" in task and not task["file"].endswith(".mm")
    if of_a_kernel:
        soft.compile_with(compile_mutant)
    found = cases.notice(soft, task["case"], numbers)
    if of_a_kernel and not seeded:
        return "STALE: no library that was compiled has its text"
    return f"INVALID: {invalid[0]}" if invalid else found or "SURVIVED"


def in_a_child(function: Callable[..., object], *arguments: object) -> object:
    """What it returns; or how the process ended, if not well, or what GNUstep says of objects without a pool."""
    out, into = os.pipe()
    with tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            os.dup2(errors.fileno(), 2)
            try:
                data = pickle.dumps(function(*arguments))
            except Exception as error:  # of this file: what a bug brings about is caught by cases.notice
                data = pickle.dumps(f"INVALID: {error!r}")
            with os.fdopen(into, "wb") as pipe:
                pipe.write(data)
            os._exit(0)
        os.close(into)
        with os.fdopen(out, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(child, 0)
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if status:
        return f"the process ended with status {status}: {said[:300]}"
    result = pickle.loads(data)
    return "autorelease called without pool" if result == "SURVIVED" and "autorelease called without pool" in said else result


def main() -> None:
    tasks = json.loads(Path(sys.argv[1]).read_text())
    clean = os.environ["PYTHONPATH"]
    files = {text: name for name, text in build.kernel_texts().items()}
    numbers: dict[str, object] = {}
    result = {}
    for case in sorted({task["case"] for task in tasks}):
        numbers[case] = in_a_child(expected, clean, case)
        found = in_a_child(notice, {"case": case, "package": clean}, numbers[case], files)
        if found != "SURVIVED":
            result[f"case {case} without a bug"] = f"not clean: {found}"
    for task in tasks:
        result[task["name"]] = in_a_child(notice, task, numbers[task["case"]], files)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
