"""What all commands share in talking to a person or a program."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from ..errors import FileError, RwkvError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = [
    "ProgressBar", "command", "exit_status", "note", "open_missing_streams", "print_fields", "print_json", "read_stdin", "write",
]  # fmt: skip

P = ParamSpec("P")
R = TypeVar("R")

BAD_INPUT, INTERRUPTED, CLOSED_PIPE = 2, 130, 141


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turns what can go wrong in a command into an exit status and at most one sentence."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with exit_status(), warnings.catch_warnings():
            warnings.showwarning = _show_warning
            # A character that the terminal cannot show, or bytes that are no text, are no reason to fail.
            for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "replace")):
                if hasattr(stream, "reconfigure"):
                    stream.reconfigure(errors=errors)
            result = function(*args, **kwargs)
            sys.stdout.flush()
            return result

    return wrapper


@contextlib.contextmanager
def exit_status() -> Iterator[None]:
    """Turns what went wrong in the block into an exit status and at most one sentence."""
    try:
        yield
    except RwkvError as error:
        note(f"error: {error}")
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        _stop_printing()
        raise typer.Exit(CLOSED_PIPE) from None
    except OSError as error:  # files have had their FileError: this is what is printed, or the system's want of something
        _stop_printing()
        note(f"error: {error.filename or 'standard output'}: {error.strerror or error}")
        raise typer.Exit(BAD_INPUT) from None
    except MemoryError as error:
        note(f"error: out of memory{f': {error}' if str(error) else ''}")
        raise typer.Exit(BAD_INPUT) from None


def _stop_printing() -> None:
    """Python flushes stdout on exit; let that go nowhere instead of failing again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    note(f"warning: {message}")


def open_missing_streams() -> None:
    """A process may be started without stdin, stdout or stderr. Then nothing can be read, and what is printed is lost; a file
    that is opened later must not become one of them."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    for name, mode, number in (("stdin", "r", 0), ("stdout", "w", 1), ("stderr", "w", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115  # open until the end


def read_stdin() -> str:
    """All of it; FileError if it cannot be read."""
    try:
        return sys.stdin.read()
    except OSError as error:
        raise FileError(f"[prompt] standard input: cannot read: {error.strerror or error}") from None


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
