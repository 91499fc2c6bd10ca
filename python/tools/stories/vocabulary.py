"""A World-format vocabulary made from the stories: bytes, then frequent words, and greedy longest match.

Layout, as in the World vocabulary: id 0 is the control token ``<s>`` (end of text), ids 1..256 are the single bytes
0..255, id 261 is ``\\n\\n`` (end of turn), and the other multi-byte tokens follow from 257 on in byte order.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import Iterable

END_OF_TEXT = 0
END_OF_TURN = 261
PIECE = re.compile(r"'s\b| ?[A-Za-z]+| ?[^A-Za-z\s]+|\s+")       # no token of ours crosses these pieces
FIXED = ("\n\n", "\t\t", "\r\n", "  ", "    ", "User", "Assistant", "System", "...")
MIN_COUNT = 12


def build_tokens(documents: Iterable[str], size: int) -> list[bytes]:
    """The token list (index = id, entry 0 is ``b"<s>"``) of ``size`` tokens, from text counts.

    Words come first (with the space before them), by frequency; what room is left goes to pieces of two to four letters
    from the rarer words, so that invented names take few tokens.
    """
    words: Counter[str] = Counter()
    for text in documents:
        words.update(PIECE.findall(text))
    chosen = {text.encode(): None for text in FIXED if len(text) > 1}
    room = size - 257 - len(chosen)
    pieces_room = max(room // 8, 1)
    for word, count in words.most_common():
        if count < MIN_COUNT or room <= pieces_room:
            break
        if len(word.encode()) > 1 and word.encode() not in chosen:
            chosen[word.encode()] = None
            room -= 1
    parts: Counter[str] = Counter()
    for word, count in words.items():
        if word.encode() not in chosen and word.strip().isalpha():
            for length in (2, 3, 4):
                for start in range(len(word) - length + 1):
                    parts[word[start:start + length]] += count * (length - 1)
    for part, _ in sorted(parts.items(), key=lambda item: (-item[1], item[0])):
        if room == 0:
            break
        if part.encode() not in chosen and part != " ":
            chosen[part.encode()] = None
            room -= 1
    multi = sorted(token for token in chosen if token != b"\n\n")
    tokens = [b"<s>", *(bytes([b]) for b in range(256)), *multi]
    tokens.insert(END_OF_TURN, b"\n\n")
    return tokens


class Tokenizer:
    """Greedy longest match over bytes with a per-piece cache (exact for text made of ``PIECE`` pieces of this vocabulary)."""

    def __init__(self, tokens: list[bytes]) -> None:
        self.tokens = tokens
        self._ids = {token: i for i, token in enumerate(tokens) if i}
        self._longest = max(map(len, tokens))
        self._piece = lru_cache(maxsize=1 << 18)(self.encode_bytes)

    def encode_bytes(self, data: bytes) -> tuple[int, ...]:
        """The definition: at each byte the longest token that matches."""
        out, position = [], 0
        while position < len(data):
            for length in range(min(self._longest, len(data) - position), 0, -1):
                token = self._ids.get(data[position:position + length])
                if token is not None:
                    out.append(token)
                    position += length
                    break
        return tuple(out)

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``, piece by piece."""
        out: list[int] = []
        for piece in PIECE.findall(text):
            out.extend(self._piece(piece.encode()))
        return out

    def decode(self, ids: Iterable[int]) -> bytes:
        """The bytes of ``ids``; the end-of-text token has none."""
        return b"".join(self.tokens[i] for i in ids if i != END_OF_TEXT)
