"""From token ids to text that may be shown: whole characters, nothing past a stop string, nothing that may become one."""

from __future__ import annotations

from collections.abc import Sequence

from .tokenizer import StreamDecoder

__all__ = ["StopFinder", "TextAssembler"]


class StopFinder:
    """Looks for stop strings in text that arrives in pieces.

    The text ends before the stop string that is complete first (of several complete at the same character, the longest), so
    the result does not depend on how the text is cut into pieces. A tail that a stop string might begin with is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max(map(len, stops), default=0)
        self.has_stops = bool(stops)
        self._held = ""
        self.found: str | None = None

    def push(self, piece: str) -> str:
        """The text that is now free to go. `found` is set once a stop string is complete."""
        if not self.has_stops:
            return piece
        text = self._held + piece
        best: tuple[int, int, str] | None = None  # end, start, stop
        for stop in self._stops:
            start = text.find(stop)
            if start >= 0 and (best is None or (start + len(stop), start) < best[:2]):
                best = (start + len(stop), start, stop)
        if best is not None:
            self.found = best[2]
            self._held = ""
            return text[: best[1]]
        hold = min(self._longest - 1, len(text))
        while hold and not any(stop.startswith(text[-hold:]) for stop in self._stops):
            hold -= 1
        self._held = text[len(text) - hold :]
        return text[: len(text) - hold]

    def flush(self) -> str:
        """What was held back: the text is over, so it was not a stop string."""
        text, self._held = self._held, ""
        return text


class TextAssembler:
    """Decoder, stop strings and stripping in a row.

    raw: everything the tokens say, with the stop string.
    text: what the caller gets: before the stop string; with strip=True without white space at both ends.
    """

    def __init__(self, decoder: StreamDecoder, stops: Sequence[str] = (), *, strip: bool = False) -> None:
        self._decoder = decoder
        self._finder = StopFinder(stops)
        self._strip = strip
        self._raw: list[str] = []
        self._text: list[str] = []
        self._fresh: list[str] = []
        self._begun = False
        self._space = ""  # white space that is only shown if text follows

    @property
    def raw(self) -> str:
        return "".join(self._raw)

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def has_stops(self) -> bool:
        """True if there are stop strings to look for."""
        return self._finder.has_stops

    @property
    def stop_found(self) -> str | None:
        """The stop string that ended the text."""
        return self._finder.found

    def push(self, token: int) -> bool:
        """Takes the next token; True once a stop string is complete."""
        piece = self._decoder.push(token)
        if piece:
            self._raw.append(piece)
            self._release(self._finder.push(piece))
        return self._finder.found is not None

    def take(self) -> str:
        """The text that became free since the last call."""
        fresh = self._fresh
        if not fresh:
            return ""
        text = fresh[0] if len(fresh) == 1 else "".join(fresh)
        fresh.clear()
        return text

    def finish(self) -> None:
        """No more tokens: releases what was held back."""
        if self._finder.found is None:
            rest = self._decoder.flush()
            self._raw.append(rest)
            self._release(self._finder.push(rest) + self._finder.flush())

    def _release(self, text: str) -> None:
        if self._strip:
            if not self._begun:
                text = text.lstrip()
                self._begun = bool(text)
            text = self._space + text
            kept = text.rstrip()
            self._space = text[len(kept) :]
            text = kept
        if text:
            self._text.append(text)
            self._fresh.append(text)
