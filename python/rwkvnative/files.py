"""Paths that callers give, and files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from types import TracebackType
from typing import Any

from .errors import FileError, InputError

__all__ = ["NewFile", "check_path", "check_writable", "printable"]


def check_path(path: Any, where: str) -> str:
    """A path as text; InputError, which begins with `where`, if it is none."""
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"{where}: expected a path, got {type(path).__name__}")
    text = os.fsdecode(path)
    try:
        raw = os.fsencode(text)
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        raw = b""
    if not raw or b"\0" in raw:
        raise InputError(f"{where}: expected a path, got {text!r}")
    return text


def printable(text: str) -> str:
    """Text from outside, such as a file's name, for a message or a terminal: on one line, and with nothing that a terminal obeys."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def check_writable(path: Any, where: str) -> str:
    """The path as text, if a file may be written there as far as can be told before: for work that takes long before it writes.

    InputError for what is no path; FileError for a folder that is not there or not ours, or for something there that is no file.
    """
    text = check_path(path, where)
    refused = f"{where} {printable(text)}: cannot write:"
    try:
        folder = os.path.dirname(os.path.realpath(text))
    except OSError as error:  # a relative path, in a working directory that is gone
        raise FileError(f"{refused} {error.strerror or error}") from None
    if not os.path.isdir(folder):
        raise FileError(f"{refused} no such folder: {printable(folder)}")
    if not os.access(folder, os.W_OK):
        raise FileError(f"{refused} no permission to write in {printable(folder)}")
    try:
        mode = os.stat(text).st_mode
    except FileNotFoundError:
        return text
    except OSError as error:  # a name that is too long, say
        raise FileError(f"{refused} {error.strerror or error}") from None
    if not stat.S_ISREG(mode):  # os.replace would put a file in the place of a device or a pipe
        what = "a directory" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise FileError(f"{refused} expected the path of a file to write, got {what}")
    return text


class NewFile:
    """A file in the making. It takes the place of `path` in one step when the ``with`` block ends; after an exception, or a crash,
    what was there stays. A symbolic link is followed.

    where: what messages begin with, such as "[state]". FileError for whatever is wrong with writing; other exceptions of the
    block pass. n_bytes: written so far.
    """

    def __init__(self, path: Any, where: str) -> None:
        self._path = check_writable(path, where)
        self._where = where
        self._target = os.path.realpath(self._path)
        folder, name = os.path.split(self._target)
        self._draft = os.path.join(folder, f".{name[:40]}.{secrets.token_hex(6)}.part")  # a name may have 255 bytes
        self.n_bytes = 0

    def __enter__(self) -> NewFile:
        try:
            self._file = open(self._draft, "xb")  # noqa: SIM115  # __exit__ closes it
        except OSError as error:
            raise self._failure(error) from None
        return self

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        try:
            self._file.write(data)
        except OSError as error:
            raise self._failure(error) from None
        self.n_bytes += len(data)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            with self._file as file:
                if kind is None:
                    file.flush()
                    os.fsync(file.fileno())
            if kind is None:
                os.replace(self._draft, self._target)
        except OSError as failed:
            if kind is None:  # else the block's own exception is the one to tell
                raise self._failure(failed) from None
        finally:
            try:
                os.unlink(self._draft)
            except OSError:
                pass  # it is in its place, or the folder is gone

    def _failure(self, error: OSError) -> FileError:
        return FileError(f"{self._where} {printable(self._path)}: cannot write: {error.strerror or error}")
