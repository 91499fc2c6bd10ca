"""Tokens of preprocessed MSL, editable in place: what the rewriter works on."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<directive>^\#[^\n]*)
    |(?P<string>"(?:\\.|[^"\\])*")
    |(?P<char>'(?:\\.|[^'\\])*')
    |(?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<op>::|->|\+\+|--|<<=|>>=|[-+*/%&|^<>=!]=|&&|\|\||\[\[|\]\]|<<|.)""",
    re.M | re.S | re.X,
)


class MslError(Exception):
    """The source uses something that the emulator does not support, or that MSL does not allow."""


@dataclass
class Token:
    kind: str  # a group of _TOKEN
    text: str


class Tokens:
    """A token list; indices stay valid, for tokens are blanked or given another text, never inserted or removed."""

    def __init__(self, source: str) -> None:
        self.list = [Token(m.lastgroup or "", m.group()) for m in _TOKEN.finditer(source)]

    def __len__(self) -> int:
        return len(self.list)

    def __getitem__(self, i: int) -> Token:
        return self.list[i]

    def text(self, i: int) -> str:
        """The text of token i; empty outside of the list."""
        return self.list[i].text if 0 <= i < len(self.list) else ""

    def kind(self, i: int) -> str:
        return self.list[i].kind if 0 <= i < len(self.list) else ""

    def next(self, i: int) -> int:
        """The next token that is neither space nor a line marker."""
        i += 1
        while i < len(self.list) and self.list[i].kind in ("space", "directive"):
            i += 1
        return i

    def previous(self, i: int) -> int:
        """The previous token that is neither space nor a line marker; -1 at the beginning."""
        i -= 1
        while i >= 0 and self.list[i].kind in ("space", "directive"):
            i -= 1
        return i

    def find(self, i: int, *texts: str) -> int:
        """The first token from i on with one of these texts."""
        while i < len(self.list) and self.list[i].text not in texts:
            i += 1
        return i

    def closing(self, i: int) -> int:
        """The token that closes the bracket at i."""
        opening = self.text(i)
        closing = {"(": ")", "{": "}", "[": "]", "<": ">", "[[": "]]"}[opening]
        depth = 0
        for k in range(i, len(self.list)):
            if self.list[k].text == opening:
                depth += 1
            elif self.list[k].text == closing:
                depth -= 1
                if depth == 0:
                    return k
        raise MslError(f"unbalanced {opening}")

    def opening_angle(self, i: int) -> int:
        """The < that the > at i closes; -1 if there is none."""
        depth = 0
        for k in range(i, -1, -1):
            if self.list[k].text == ">":
                depth += 1
            elif self.list[k].text == "<":
                depth -= 1
                if depth == 0:
                    return k
        return -1

    def join(self, begin: int, end: int) -> str:
        """The text of tokens begin..end-1 without line markers."""
        return "".join(t.text for t in self.list[begin:end] if t.kind != "directive")

    def blank(self, begin: int, end: int) -> None:
        """Replaces tokens by spaces; lines keep their numbers."""
        for t in self.list[begin:end]:
            if t.kind not in ("space", "directive"):
                t.kind, t.text = "space", " "

    def source(self) -> str:
        return "".join(t.text for t in self.list)
