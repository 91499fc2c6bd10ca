"""GGUF files with chosen metadata and vocabulary, for loader and tokenizer tests. Weights: synthetic.py."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFValueType
from synthetic import build_model, escape_token, standard_metadata

# Token types of tokenizer.ggml.token_type.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

Typed = tuple[Any, GGUFValueType]  # a metadata value and the type it is written in

_KINDS = {str: GGUFValueType.STRING, np.uint32: GGUFValueType.UINT32, np.float32: GGUFValueType.FLOAT32}


def write_gguf(
    path: str | Path,
    keys: Mapping[str, Typed] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
    arch: str = "rwkv7",
    alignment: int | None = None,
) -> Path:
    """Any GGUF v3 file. Lists are written as arrays of the type that gguf.GGUFWriter takes from their first item."""
    writer = gguf.GGUFWriter(path, arch)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    for key, (value, kind) in (keys or {}).items():
        if kind == GGUFValueType.ARRAY:
            writer.add_array(key, value)
        else:
            writer.add_key_value(key, value, kind)
    for name, array in (tensors or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def write_rwkv7(
    path: str | Path,
    tokens: list[str] | None = None,
    token_types: list[int] | None = None,
    overrides: Mapping[str, Typed | None] | None = None,
    extra_tensors: Mapping[str, np.ndarray] | None = None,
    arch: str = "rwkv7",
    alignment: int | None = None,
) -> Path:
    """A complete one-layer RWKV-7 model of some 60 kilobytes (C 32, N 16), F16 matrices.

    tokens: spellings as they stand in the file; default a World vocabulary of 300 with two unused tokens at the end.
    overrides: metadata to write beside or instead of the usual; None leaves a key out."""
    model = build_model(n_layer=1, n_embd=32, head_size=16, n_ff=64, n_vocab=len(tokens or range(300)), n_unused=2,
                        ranks=(8, 6, 4, 10), type="F16", lora_type="F16")  # fmt: skip
    if tokens is None:
        tokens, token_types = [escape_token(t) for t in model.tokens], model.token_types
    keys: dict[str, Typed | None] = {
        name.replace("rwkv7.", arch + "."): (np.asarray(value).item(), _KINDS[type(value)])  # type: ignore[index]
        for name, value in standard_metadata(model).items()
    }
    keys["tokenizer.ggml.tokens"] = (tokens, GGUFValueType.ARRAY)
    if token_types is not None:
        keys["tokenizer.ggml.token_type"] = (token_types, GGUFValueType.ARRAY)
    keys |= overrides or {}
    tensors = {
        t.name: t.data.view(np.float16 if t.ggml_type == gguf.GGMLQuantizationType.F16 else np.float32).reshape(
            t.ne[::-1]
        )
        for t in model.tensors.values()
    }
    present = {key: value for key, value in keys.items() if value is not None}
    return write_gguf(path, present, tensors | dict(extra_tensors or {}), arch, alignment)


def world_vocabulary(vocab_file: Path, n_vocab: int = 65536) -> tuple[list[str], list[int], dict[int, bytes]]:
    """The World vocabulary as a converter writes it, from the ``rwkv`` package's rwkv_vocab_v20230424.txt.

    Returns GGUF token strings, token types and the bytes of every normal id."""
    by_id: dict[int, bytes] = {}
    for line in vocab_file.read_text(encoding="utf-8").split("\n"):
        if line:
            token = ast.literal_eval(line[line.index(" ") + 1 : line.rindex(" ")])
            by_id[int(line[: line.index(" ")])] = token.encode() if isinstance(token, str) else token
    tokens = ["<s>"] + [escape_token(by_id[i]) if i in by_id else f"[PAD{i}]" for i in range(1, n_vocab)]
    types = [CONTROL] + [NORMAL if i in by_id else UNUSED for i in range(1, n_vocab)]
    return tokens, types, by_id
