"""llama.cpp's llama-bench beside ours, on the same file, in turn."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from ..errors import DeviceError, InputError
from .measure import Test

__all__ = ["LlamaBench", "parse_peer"]


def parse_peer(text: str) -> LlamaBench:
    """``llama-bench=PATH``; InputError for another peer, or where there is no such program."""
    name, equals, path = text.partition("=")
    if name != "llama-bench" or not equals or not path:
        raise InputError(f"[bench] --peer: expected llama-bench=PATH, got {text!r}")
    found = shutil.which(path)
    if found is None:
        what = "is not a program that can be run" if os.path.exists(path) else "is not there"
        raise InputError(f"[bench] --peer: {path} {what}")
    return LlamaBench(Path(found))


class LlamaBench:
    """A llama-bench binary. A run is a fresh process with one repetition of one test; it warms up by itself."""

    name = "llama-bench"

    def __init__(self, path: Path) -> None:
        self.path = path

    def measure(self, model: str | os.PathLike[str], test: Test, n_threads: int, on_gpu: bool) -> float:
        """Tokens per second. DeviceError, with the end of what it printed, if it fails."""
        if test.batch != 1:
            raise InputError(f"[bench] --peer: llama-bench decodes one sequence at a time, got -b {test.batch}")
        prompt, generate = (test.n, 0) if test.kind == "prefill" else (0, test.n)
        command = [str(self.path), "-m", str(model), "-p", str(prompt), "-n", str(generate), "-r", "1", "-o", "json"]
        command += ["-ngl", "99"] if on_gpu else ["-ngl", "0", "-t", str(n_threads)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise DeviceError(f"[bench] {self.path}: {error.strerror or error}") from None
        try:
            rate = float(json.loads(done.stdout)[0]["avg_ts"])
        except (ValueError, KeyError, IndexError, TypeError):
            tail = (done.stderr or done.stdout).strip()[-300:]
            raise DeviceError(f"[bench] {self.path} ended with status {done.returncode} and no result: {tail}") from None
        if not rate > 0:
            raise DeviceError(f"[bench] {self.path}: expected a positive rate, got {rate}")
        return rate
