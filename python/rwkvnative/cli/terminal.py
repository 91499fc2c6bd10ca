"""What all commands share in talking to a person or a program."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from ..errors import RwkvError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["ProgressBar", "command", "note", "print_fields", "print_json", "write"]

P = ParamSpec("P")
R = TypeVar("R")

BAD_INPUT, INTERRUPTED, CLOSED_PIPE = 2, 130, 141


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turns what can go wrong in a command into an exit status and at most one sentence."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            for stream in (sys.stdout, sys.stderr):
                if hasattr(stream, "reconfigure"):  # a character that the terminal cannot show is no reason to fail
                    stream.reconfigure(errors="replace")
            result = function(*args, **kwargs)
            sys.stdout.flush()
            return result
        except RwkvError as error:
            note(f"error: {error}")
            raise typer.Exit(BAD_INPUT) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # Nobody reads any more. Python flushes stdout on exit; let that go nowhere instead of failing again.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(CLOSED_PIPE) from None

    return wrapper


def write(text: str) -> None:
    """Text to stdout, now."""
    sys.stdout.write(text)
    sys.stdout.flush()


def note(text: str) -> None:
    """A line to stderr; silently lost if nobody reads it."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One line of JSON to stdout."""
    write(json.dumps(value, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    """What GGUF metadata holds beside JSON's own types: numpy arrays and numbers, bytes."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def print_fields(fields: dict[str, Any]) -> None:
    """Aligned ``name  value`` lines to stdout."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        write(f"{name:<{width}}  {value}\n")


class ProgressBar:
    """A ``progress(done, total)`` callback that shows a bar on stderr, if that is a terminal and the work takes a while."""

    _PATIENCE = 0.3  # seconds without a bar

    def __init__(self, title: str) -> None:
        self._title = title
        self._begin = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        if not sys.stderr.isatty() or time.monotonic() - self._begin < self._PATIENCE:
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._title, total=total)
            self._bar.start()
        assert self._task is not None
        self._bar.update(self._task, completed=done, total=total)
        if done >= total:  # what is printed next must not share the terminal with it
            self._bar.stop()
