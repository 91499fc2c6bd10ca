"""The vocabulary of a GGUF: its token list as bytes, token types, special ids and merges, all checked.

Two spellings occur. World files (``tokenizer.ggml.model = "rwkv"``) hold ``repr(bytes)`` without the quotes. Byte-level
BPE files ("gpt2") spell every byte as one printable character, in the alphabet that GPT-2 introduced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from . import _core
from .errors import FileError, InputError
from .gguf_file import GgufFile

__all__ = [
    "BYTE_TO_CHAR",
    "BpeRules",
    "SPECIAL_TYPES",
    "USER_DEFINED",
    "Vocabulary",
    "bpe_vocabulary",
    "tokenizer_model",
    "world_vocabulary",
]

# tokenizer.ggml.token_type. Types 0 (undefined), 1 (normal) and 6 (byte) are ordinary text here.
_UNKNOWN, _CONTROL, USER_DEFINED, _UNUSED, _LAST_TYPE = 2, 3, 4, 5, 6
SPECIAL_TYPES = (_UNKNOWN, _CONTROL, _UNUSED)
_MAX_TOKEN_BYTES = 65535

# GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the other 68, in order, for U+0100 and on.
_PRINTABLE = frozenset([*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)])
BYTE_TO_CHAR = {
    byte: 0x100 + i for i, byte in enumerate(b for b in range(256) if b not in _PRINTABLE)
}  # for str.translate
_CHAR_TO_BYTE = {char: byte for byte, char in BYTE_TO_CHAR.items()}

# How Qwen2 cuts text into words before merging (published in the model's tokenizer.json), by tokenizer.ggml.pre.
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BPE_WORDS = {"qwen2": _QWEN2_WORDS, "deepseek-r1-qwen": _QWEN2_WORDS}

# Tokens that end a turn, for BPE files without tokenizer.ggml.eot_token_id.
_BPE_TURN_ENDS = (b"<|im_end|>", b"<|eot_id|>", "<\uff5cend\u2581of\u2581sentence\uff5c>".encode())


@dataclass(frozen=True)
class Vocabulary:
    """Token bytes by id, their types (integers [n_vocab]), and the ids that mean something (None: no such token)."""

    pieces: list[bytes]
    types: np.ndarray
    bos_id: int | None
    eos_id: int | None
    eot_id: int | None


@dataclass(frozen=True)
class BpeRules:
    """What byte-level BPE needs beside the vocabulary, in the file's own spelling: the tokens that BPE may produce with
    their ids, the merges by falling priority, and the pattern that cuts text into words."""

    ids: dict[str, int]
    merges: list[tuple[str, str]]
    word_pattern: str


def tokenizer_model(gguf: GgufFile) -> str:
    """``tokenizer.ggml.model``: "rwkv" or "gpt2". ``FileError`` for any other."""
    model: str = _required(gguf, "tokenizer.ggml.model", str)
    if model not in ("rwkv", "gpt2"):
        _fail(gguf, f"key 'tokenizer.ggml.model': expected 'rwkv' or 'gpt2', got {_short(model)}")
    return model


def world_vocabulary(gguf: GgufFile) -> Vocabulary:
    """The vocabulary of a World file. Where the file does not say, bos and eos are id 0 if that is a control token, and
    the end of a turn is the token of a blank line. ``FileError`` if anything is missing or malformed."""
    spellings = _strings(gguf, "tokenizer.ggml.tokens")
    try:
        pieces = _core.unescape_world_tokens(spellings)
    except InputError as error:
        _fail(gguf, f"key 'tokenizer.ggml.tokens': {error}")
    _check_pieces(gguf, pieces)
    types = _token_types(gguf, len(pieces))
    end = 0 if types[0] == _CONTROL else None
    blank_lines = [id for id, piece in enumerate(pieces) if piece == b"\n\n" and types[id] not in SPECIAL_TYPES]
    return Vocabulary(
        pieces,
        types,
        bos_id=_special_id(gguf, "bos", len(pieces), end),
        eos_id=_special_id(gguf, "eos", len(pieces), end),
        eot_id=_special_id(gguf, "eot", len(pieces), blank_lines[-1] if blank_lines else None),
    )


def bpe_vocabulary(gguf: GgufFile) -> tuple[Vocabulary, BpeRules]:
    """The vocabulary and rules of a byte-level BPE file. ``FileError`` if anything is missing or malformed."""
    pre = _required(gguf, "tokenizer.ggml.pre", str)
    if pre not in _BPE_WORDS:
        _fail(gguf, f"key 'tokenizer.ggml.pre': expected one of {', '.join(map(repr, _BPE_WORDS))}, got {_short(pre)}")
    spellings = _strings(gguf, "tokenizer.ggml.tokens")
    types = _token_types(gguf, len(spellings))
    verbatim = np.isin(types, (*SPECIAL_TYPES, USER_DEFINED)).tolist()  # these are plain text, not spelt byte by byte
    pieces: list[bytes] = []
    ids: dict[str, int] = {}
    for id, (text, is_verbatim) in enumerate(zip(spellings, verbatim)):
        try:
            if is_verbatim:
                pieces.append(text.encode("utf-8", "surrogateescape"))
            else:
                pieces.append(text.translate(_CHAR_TO_BYTE).encode("latin-1"))
                ids[text] = id
        except UnicodeEncodeError:
            _fail(gguf, f"key 'tokenizer.ggml.tokens': token {id} {_short(text)} is not spelt in GPT-2's byte alphabet")
    _check_pieces(gguf, pieces)
    ids.pop("", None)

    merges: list[tuple[str, str]] = []
    for rank, line in enumerate(_strings(gguf, "tokenizer.ggml.merges")):
        left, _, right = line.partition(" ")
        if not (left in ids and right in ids and left + right in ids):
            _fail(
                gguf, f"key 'tokenizer.ggml.merges': merge {rank} {_short(line)} is not two tokens that join to a third"
            )
        merges.append((left, right))

    id_of = {piece: id for id, piece in enumerate(pieces)}
    turn_end = next((id_of[piece] for piece in _BPE_TURN_ENDS if piece in id_of), None)
    vocabulary = Vocabulary(
        pieces,
        types,
        bos_id=_special_id(gguf, "bos", len(pieces), None),
        eos_id=_special_id(gguf, "eos", len(pieces), None),
        eot_id=_special_id(gguf, "eot", len(pieces), turn_end),
    )
    return vocabulary, BpeRules(ids, merges, _BPE_WORDS[pre])


def _fail(gguf: GgufFile, message: str) -> NoReturn:
    raise FileError(f"[tokenizer] {gguf.path}: {message}")


def _short(text: str) -> str:
    return ascii(text if len(text) <= 64 else text[:64] + "...")


def _required(gguf: GgufFile, key: str, kind: type) -> Any:
    value = gguf.metadata.get(key)
    if value is None:
        _fail(gguf, f"key '{key}' is missing")
    if not isinstance(value, kind):
        _fail(gguf, f"key '{key}': expected {kind.__name__}, got {type(value).__name__}")
    return value


def _strings(gguf: GgufFile, key: str) -> list[str]:
    items: list[str] = _required(gguf, key, list)
    if not items:
        _fail(gguf, f"key '{key}': the list is empty")
    if set(map(type, items)) != {str}:
        _fail(gguf, f"key '{key}': expected an array of strings")
    return items


def _token_types(gguf: GgufFile, n_vocab: int) -> np.ndarray:
    """Token types [n_vocab]. A file without them: id 0 is control, as in World vocabularies, the rest normal."""
    key = "tokenizer.ggml.token_type"
    types = gguf.metadata.get(key)
    if types is None:
        types = np.ones(n_vocab, np.int32)
        types[0] = _CONTROL
    if not isinstance(types, np.ndarray) or types.dtype.kind not in "iu":
        _fail(gguf, f"key '{key}': expected an array of integers")
    if len(types) != n_vocab:
        _fail(gguf, f"key '{key}': expected {n_vocab} types, one per token, got {len(types)}")
    if types.min() < 0 or types.max() > _LAST_TYPE:
        _fail(gguf, f"key '{key}': expected types 0 to {_LAST_TYPE}, got {types.min()} to {types.max()}")
    return types


def _special_id(gguf: GgufFile, name: str, n_vocab: int, default: int | None) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id"
    value = gguf.metadata.get(key, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < n_vocab):
        got = value if isinstance(value, (int, float)) else type(value).__name__
        _fail(gguf, f"key '{key}': expected a token id from 0 to {n_vocab - 1}, got {got}")
    return value


def _check_pieces(gguf: GgufFile, pieces: list[bytes]) -> None:
    longest = max(map(len, pieces))
    if longest > _MAX_TOKEN_BYTES:
        _fail(
            gguf,
            f"key 'tokenizer.ggml.tokens': expected tokens of at most {_MAX_TOKEN_BYTES} bytes, got one of {longest}",
        )
