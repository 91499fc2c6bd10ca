"""Tokenizers from a GGUF's own vocabulary: the RWKV World tokenizer and byte-level BPE (the Qwen-based RWKV models).

Both work on bytes, so encoding is lossless: for any text or bytes, ``decode_bytes(encode(x))`` gives its UTF-8 back.
Special tokens (control, unused, unknown) are never produced from text unless ``allow_special=True``, so a prompt
cannot forge them, and are left out of decoded text unless ``special=True``.
"""

from __future__ import annotations

import codecs
import operator
import re
from collections.abc import Iterable, Iterator
from typing import Any, AnyStr, SupportsIndex

import numpy as np

from . import _core
from .errors import InputError
from .gguf_file import GgufFile
from .vocabulary import (
    BYTE_TO_CHAR,
    SPECIAL_TYPES,
    USER_DEFINED,
    BpeRules,
    Vocabulary,
    bpe_vocabulary,
    tokenizer_model,
    world_vocabulary,
)

__all__ = ["BpeTokenizer", "StreamDecoder", "Tokenizer", "WorldTokenizer", "tokenizer_from_gguf"]

_NOT_UTF8 = re.compile("[\udc80-\udcff]+")  # bytes that surrogateescape could not decode


class StreamDecoder:
    """Turns ids into text as they come, never splitting a character: bytes wait until their character is complete.

    The pieces joined, with ``flush()`` at the end, equal ``decode()`` of all ids: bytes that cannot become a character
    turn into U+FFFD exactly as ``bytes.decode(errors="replace")`` does it."""

    def __init__(self, tokenizer: Tokenizer, special: bool):
        self._tokenizer = tokenizer
        self._special = special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: SupportsIndex) -> str:
        """The text that ``id`` completes, perhaps empty. ``InputError`` if the id is out of range."""
        return self._decoder.decode(self._tokenizer._visible_bytes(id, self._special))

    def flush(self) -> str:
        """What is left of an unfinished character, as U+FFFD; then ready for new text."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


class Tokenizer:
    """What every tokenizer does. Immutable, so usable from several threads, and pickled and copied as its vocabulary is.

    Attributes:
        n_vocab: number of ids; valid ids are ``0 <= id < n_vocab``.
        bos_id, eos_id, eot_id: begin of text, end of text, end of turn; ``None`` if the vocabulary has none.
        special_tokens: spelling (bytes) to id of the tokens that text never produces by itself.
    """

    def __init__(self, vocabulary: Vocabulary):
        self._made_of: tuple[Any, ...] = (vocabulary,)
        self._pieces = vocabulary.pieces
        self.n_vocab = len(vocabulary.pieces)
        self.bos_id, self.eos_id, self.eot_id = vocabulary.bos_id, vocabulary.eos_id, vocabulary.eot_id
        self._visible = list(vocabulary.pieces)
        self.special_tokens: dict[bytes, int] = {}
        for id in np.flatnonzero(np.isin(vocabulary.types, SPECIAL_TYPES)).tolist():
            if self._pieces[id]:
                self.special_tokens[self._pieces[id]] = id
            self._visible[id] = b""
        self._special_pattern: re.Pattern[bytes] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._made_of

    def encode(self, text: str | bytes, *, add_bos: bool = False, allow_special: bool = False) -> list[int]:
        """Text to ids. ``str`` is encoded as UTF-8 (surrogate-escaped bytes as those bytes); ``bytes`` hold anything.

        add_bos: put ``bos_id`` first. The World models are used without.
        allow_special: spellings of special tokens become their ids. Only for text you trust.

        Raises:
            InputError: the vocabulary cannot spell the text, the text holds a lone surrogate, or there is no bos token.
        """
        data = _utf8(text)
        ids: list[int] = []
        if add_bos:
            if self.bos_id is None:
                raise InputError("[tokenizer] add_bos: this vocabulary has no begin-of-text token")
            ids.append(self.bos_id)
        if not allow_special or not self.special_tokens:
            return ids + self._encode_text(data) if ids else self._encode_text(data)
        if self._special_pattern is None:
            self._special_pattern = _any_of(self.special_tokens)
        for part, is_special in _split(self._special_pattern, data):
            if is_special:
                ids.append(self.special_tokens[part])
            else:
                ids += self._encode_text(part)
        return ids

    def decode(self, ids: Iterable[SupportsIndex] | np.ndarray, *, special: bool = False) -> str:
        """Ids to text; bytes that are not UTF-8 become U+FFFD. ``InputError`` for an id out of range."""
        return self.decode_bytes(ids, special=special).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[SupportsIndex] | np.ndarray, *, special: bool = False) -> bytes:
        """Ids to bytes, exactly. ``special``: also the spellings of special tokens, which are otherwise left out."""
        table = self._pieces if special else self._visible
        return b"".join([table[id] for id in self._checked(ids)])

    def token_bytes(self, id: SupportsIndex) -> bytes:
        """The bytes of one token (for a special one, its spelling). ``InputError`` if the id is out of range."""
        return self._visible_bytes(id, special=True)

    def stream_decoder(self, *, special: bool = False) -> StreamDecoder:
        """A new decoder for ids that come one at a time."""
        return StreamDecoder(self, special)

    def _encode_text(self, data: bytes) -> list[int]:
        """Encode bytes in which no special token is looked for."""
        raise NotImplementedError

    def _visible_bytes(self, id: SupportsIndex, special: bool) -> bytes:
        try:
            index = operator.index(id)
        except TypeError:
            raise InputError(f"[tokenizer] expected an integer token id, got {type(id).__name__}") from None
        if not 0 <= index < self.n_vocab:
            got = index if index.bit_length() <= 64 else f"of {index.bit_length()} bits"
            raise InputError(f"[tokenizer] token id {got} is out of range; expected 0 to {self.n_vocab - 1}")
        return (self._pieces if special else self._visible)[index]

    def _checked(self, ids: Iterable[SupportsIndex] | np.ndarray) -> list[int]:
        if isinstance(ids, (str, bytes)):
            raise InputError(f"[tokenizer] expected token ids to decode, got {type(ids).__name__}")
        try:
            array = ids if isinstance(ids, np.ndarray) else np.asarray(list(ids))
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"[tokenizer] expected a sequence of token ids: {error}") from None
        if array.size == 0:
            return []
        if array.ndim == 1 and array.dtype.kind == "O":  # a number past 64 bits, or none: which one
            for id in array:
                self.token_bytes(id)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise InputError(
                f"[tokenizer] expected one dimension of integer token ids, got {array.dtype} {list(array.shape)}"
            )
        for bad in (int(array.min()), int(array.max())):
            if not 0 <= bad < self.n_vocab:
                raise InputError(f"[tokenizer] token id {bad} is out of range; expected 0 to {self.n_vocab - 1}")
        checked: list[int] = array.tolist()
        return checked


class WorldTokenizer(Tokenizer):
    """The RWKV World tokenizer: greedy longest match over bytes, over any vocabulary.

    Normal, user-defined and byte tokens match; empty ones never do, and of equal tokens the last id wins (the reference
    tokenizer does the same)."""

    def __init__(self, vocabulary: Vocabulary):
        super().__init__(vocabulary)
        normal = np.flatnonzero(~np.isin(vocabulary.types, SPECIAL_TYPES)).astype(np.int32)
        self._trie = _core.WorldTrie([vocabulary.pieces[i] for i in normal.tolist()], normal)

    def _encode_text(self, data: bytes) -> list[int]:
        ids: list[int] = self._trie.encode(data).tolist()
        return ids


class BpeTokenizer(Tokenizer):
    """Byte-level BPE through the ``tokenizers`` library, for GGUFs with ``tokenizer.ggml.model = "gpt2"``.

    User-defined tokens match wherever they stand in the text, before BPE. The text is not Unicode-normalized (Qwen's
    own tokenizer applies NFC first): encoding stays lossless, and NFC text, nearly all there is, gets the same ids."""

    def __init__(self, vocabulary: Vocabulary, rules: BpeRules):
        super().__init__(vocabulary)
        self._made_of = (vocabulary, rules)
        import tokenizers  # here: only these models need it, and it takes a while to load

        byte_chars = [chr(BYTE_TO_CHAR.get(byte, byte)) for byte in range(256)]
        self._byte_ids = [rules.ids.get(char, -1) for char in byte_chars]
        self._missing_bytes = bytes(byte for byte, id in enumerate(self._byte_ids) if id < 0)
        user_defined = np.flatnonzero(vocabulary.types == USER_DEFINED).tolist()
        self._user_defined = {self._pieces[id]: id for id in user_defined if self._pieces[id]}
        self._user_pattern = _any_of(self._user_defined) if self._user_defined else None
        self._bpe = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=rules.ids, merges=rules.merges))
        self._bpe.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
            [
                tokenizers.pre_tokenizers.Split(tokenizers.Regex(rules.word_pattern), "isolated"),
                tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

    def _encode_text(self, data: bytes) -> list[int]:
        if self._user_pattern is None:
            return self._encode_words(data)
        ids: list[int] = []
        for part, is_user_defined in _split(self._user_pattern, data):
            if is_user_defined:
                ids.append(self._user_defined[part])
            else:
                ids += self._encode_words(part)
        return ids

    def _encode_words(self, data: bytes) -> list[int]:
        for byte in self._missing_bytes:  # the library would drop them without a word
            if byte in data:
                at = data.index(byte)
                raise InputError(f"[tokenizer] no token for byte value 0x{byte:02X}, at byte {at} of the text")
        try:
            return self._bpe.encode(data.decode("utf-8"), add_special_tokens=False).ids
        except UnicodeDecodeError:
            pass
        ids: list[int] = []
        for part, is_invalid in _split(_NOT_UTF8, data.decode("utf-8", "surrogateescape")):
            if is_invalid:
                ids += [self._byte_ids[byte] for byte in part.encode("utf-8", "surrogateescape")]
            else:
                ids += self._bpe.encode(part, add_special_tokens=False).ids
        return ids


def tokenizer_from_gguf(gguf: GgufFile) -> Tokenizer:
    """The tokenizer that a file describes. ``FileError`` if its vocabulary is missing, malformed or of another kind."""
    if tokenizer_model(gguf) == "rwkv":
        return WorldTokenizer(world_vocabulary(gguf))
    return BpeTokenizer(*bpe_vocabulary(gguf))


def _utf8(text: str | bytes) -> bytes:
    if isinstance(text, str):
        try:
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise InputError(
                f"[tokenizer] the text has a lone surrogate {text[error.start]!r} at character {error.start}"
            ) from None
    if isinstance(text, (bytes, bytearray, memoryview)):
        return bytes(text)
    raise InputError(f"[tokenizer] expected text as str or bytes, got {type(text).__name__}")


def _any_of(pieces: Iterable[bytes]) -> re.Pattern[bytes]:
    """A pattern that matches any of the pieces, the longest where several start."""
    return re.compile(b"|".join(re.escape(piece) for piece in sorted(pieces, key=len, reverse=True)))


def _split(pattern: re.Pattern[AnyStr], text: AnyStr) -> Iterator[tuple[AnyStr, bool]]:
    """Cut text at the pattern's matches: non-empty (part, is a match) in order."""
    at = 0
    for match in pattern.finditer(text):
        if match.start() > at:
            yield text[at : match.start()], False
        yield match.group(), True
        at = match.end()
    if at < len(text):
        yield text[at:], False
