"""Hyper-parameters of an RWKV model, read from a GGUF's metadata and checked: type, range, and against each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from .errors import FileError
from .gguf_file import GgufFile

__all__ = ["SUPPORTED_ARCHITECTURES", "rwkv_config"]


@dataclass(frozen=True)
class _Key:
    """One metadata key of an architecture: the config name it fills and the values that make sense."""

    name: str
    suffix: str  # the key is "<architecture>.<suffix>"
    low: float
    high: float
    default: int | None = None  # None: the key is required
    is_float: bool = False


# Upper bounds are far above any published model (61 layers, width 4096, rank 480) and keep products below 2^63.
_RWKV7_KEYS = (
    _Key("n_layer", "block_count", 1, 1024),
    _Key("n_embd", "embedding_length", 1, 1 << 17),
    _Key("n_ff", "feed_forward_length", 1, 1 << 20),
    _Key("head_size", "wkv.head_size", 1, 1024),
    _Key("context_length", "context_length", 1, (1 << 32) - 1),
    _Key("layer_norm_epsilon", "attention.layer_norm_epsilon", 1e-20, 1.0, is_float=True),
    _Key("decay_rank", "attention.decay_lora_rank", 1, 1 << 16),
    _Key("iclr_rank", "attention.iclr_lora_rank", 1, 1 << 16),
    _Key("value_rank", "attention.value_residual_mix_lora_rank", 1, 1 << 16),
    _Key("gate_rank", "attention.gate_lora_rank", 1, 1 << 16),
    _Key("token_shift_count", "token_shift_count", 2, 2, default=2),
)
_ARCHITECTURES = {"rwkv7": _RWKV7_KEYS}
SUPPORTED_ARCHITECTURES = tuple(_ARCHITECTURES)
_RWKV_NOT_YET = ("rwkv6", "rwkv6qwen2", "arwkv7")
_MAX_VOCAB = 1 << 24


def rwkv_config(gguf: GgufFile) -> tuple[str, dict[str, int | float]]:
    """The architecture's name and its config, as ``_core.Engine`` takes them.

    Config keys: n_layer, n_embd, n_ff, head_size, n_vocab (length of the token list), context_length,
    layer_norm_epsilon, decay_rank, iclr_rank, value_rank, gate_rank, token_shift_count. All ``int`` but
    layer_norm_epsilon.

    Raises:
        FileError: another architecture, a missing key, a value of the wrong type, out of range, or not finite.
    """

    def fail(message: str) -> NoReturn:
        raise FileError(f"[config] {gguf.path}: {message}")

    supported = ", ".join(SUPPORTED_ARCHITECTURES)
    arch = gguf.metadata.get("general.architecture")
    if arch is None:
        fail(f"key 'general.architecture' is missing; supported: {supported}")
    if not isinstance(arch, str):
        fail(f"key 'general.architecture': expected a string, got {_describe(arch)}")
    if arch in _RWKV_NOT_YET or (arch.startswith("rwkv") and arch not in _ARCHITECTURES):
        fail(f"architecture '{_printable(arch)}' is an RWKV, but not supported yet; supported: {supported}")
    if arch not in _ARCHITECTURES:
        fail(f"this is a {_printable(arch)} model, not RWKV; supported: {supported}")

    config: dict[str, int | float] = {}
    for key in _ARCHITECTURES[arch]:
        name = f"{arch}.{key.suffix}"
        value = gguf.metadata.get(name, key.default)
        if value is None:
            fail(f"key '{name}' is missing")
        wanted = (int, float) if key.is_float else int
        if isinstance(value, bool) or not isinstance(value, wanted):
            fail(f"key '{name}': expected {'a number' if key.is_float else 'an integer'}, got {_describe(value)}")
        if not math.isfinite(value) or not key.low <= value <= key.high:
            fail(f"key '{name}': expected {_range(key)}, got {value}")
        config[key.name] = float(value) if key.is_float else value

    n_embd, head_size = config["n_embd"], config["head_size"]
    if n_embd % head_size:
        fail(f"key '{arch}.wkv.head_size': expected a divisor of the embedding length {n_embd}, got {head_size}")
    heads = gguf.metadata.get(f"{arch}.attention.head_count", 0)  # converters write 0: the head size decides
    if isinstance(heads, int) and heads not in (0, n_embd // head_size):
        fail(f"key '{arch}.attention.head_count': expected 0 or {n_embd // head_size}, got {heads}")

    tokens = gguf.metadata.get("tokenizer.ggml.tokens")
    if tokens is None:
        fail("key 'tokenizer.ggml.tokens' is missing: without it the size of the vocabulary is unknown")
    if not isinstance(tokens, list) or not all(type(token) is str for token in tokens):
        fail(f"key 'tokenizer.ggml.tokens': expected an array of strings, got {_describe(tokens)}")
    if not 1 <= len(tokens) <= _MAX_VOCAB:
        fail(f"key 'tokenizer.ggml.tokens': expected 1 to {_MAX_VOCAB} tokens, got {len(tokens)}")
    config["n_vocab"] = len(tokens)
    return arch, config


def _range(key: _Key) -> str:
    return f"{key.low:g}" if key.low == key.high else f"{key.low:.10g} to {key.high:.10g}"


def _printable(text: str) -> str:
    return ascii(text[:64])[1:-1] or "nameless"


def _describe(value: object) -> str:
    if isinstance(value, str):
        return f"the string '{_printable(value)}'"
    if isinstance(value, (list, np.ndarray)):
        return f"an array of {len(value)} items"
    return f"{type(value).__name__} {value}"
