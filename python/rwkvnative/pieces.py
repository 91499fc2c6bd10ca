"""Streams of pieces of text, which one thread reads and any may close."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

from .errors import RwkvError

__all__ = ["STREAM_SECONDS", "PieceStream", "Source"]

# How long the device decodes by itself before its tokens are looked at: shown in a stream, or only to hear Ctrl-C.
STREAM_SECONDS: Final = 0.05
_SILENT_SECONDS: Final = 0.5

Piece = TypeVar("Piece")
MadePiece = TypeVar("MadePiece", covariant=True)


class Source(Protocol[MadePiece]):
    """What makes the pieces."""

    cancelled: bool  # by another thread, or a callback: heard before the next step
    burst_seconds: float

    def pieces(self) -> Generator[MadePiece, None, None]:
        """Does the work."""

    def end_texts(self) -> None:
        """No more tokens come: releases what was held back."""


class PieceStream(Generic[Piece]):
    """The iteration that the package's streams have in common."""

    def __init__(self, source: Source[Piece]) -> None:
        self._source = source
        self._pieces = source.pieces()
        self._done = False
        self._reading = threading.Lock()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Piece:
        with self._one_reader():
            try:
                return next(self._pieces)
            except BaseException:  # the end, an error, Ctrl-C
                self._done = True
                raise

    def close(self) -> None:
        """End here, with what was generated so far; a generation that is not whole is "cancelled". If another thread is reading, or
        this is called by the stream's own progress callback, the reader's iteration ends before its next step, and results are
        there after that."""
        self._source.cancelled = True
        if not self._reading.acquire(blocking=False):
            return
        try:
            self._pieces.close()
            if not self._done:
                self._done = True
                self._source.end_texts()  # if it has never begun
        finally:
            self._reading.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _read_silently(self) -> None:
        """To the end, with nobody looking."""
        self._source.burst_seconds = _SILENT_SECONDS
        for _ in self:
            pass

    @contextmanager
    def _one_reader(self) -> Iterator[None]:
        if not self._reading.acquire(blocking=False):
            raise RwkvError("[generate] this stream is being read already, by another thread or by the one that called this back")
        try:
            yield
        finally:
            self._reading.release()
