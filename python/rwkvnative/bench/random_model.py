"""Synthetic models of the published RWKV-7 sizes, made in memory: for measuring speed without a file.

Matrices are normally distributed values that went through the package's own quantizers, a pattern of a million values repeated, so
every block is valid. Magnitudes are those of a trained model where numbers could grow: unit-variance products, half of that where a
matrix writes to the residual stream, the decay ramp of the official initialisation. The text such a model writes is noise.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from .. import _core
from ..errors import InputError
from ..quantize import FILE_TYPES

__all__ = ["SIZES", "RandomModel", "Size", "TensorTypes", "random_model", "small_random_model", "tensor_sizes"]


@dataclass(frozen=True)
class Size:
    """Hyper-parameters. ranks: of the LoRAs for decay, in-context learning rate, value residual and gate."""

    n_layer: int
    n_embd: int
    ranks: tuple[int, int, int, int]
    n_vocab: int = 65536
    head_size: int = 64

    @property
    def n_ff(self) -> int:
        return 4 * self.n_embd


# Layers and widths as published; ranks of 0.1b to 2.9b as published, of 7.2b and 13.3b by the rule of the training code
# (2.5 sqrt(C), 2.5 sqrt(C), 1.7 sqrt(C), 5 sqrt(C), to multiples of 32). `tiny` is for trying things out.
SIZES = {
    "tiny": Size(3, 256, (32, 32, 32, 64), n_vocab=2048),
    "0.1b": Size(12, 768, (64, 64, 32, 128)),
    "0.4b": Size(24, 1024, (64, 64, 32, 128)),
    "1.5b": Size(24, 2048, (96, 96, 64, 256)),
    "2.9b": Size(32, 2560, (96, 96, 64, 320)),
    "7.2b": Size(32, 4096, (160, 160, 96, 320)),
    "13.3b": Size(61, 4096, (160, 160, 96, 320)),
}

# Prime numbers of blocks: rows of a matrix do not repeat soon.
_PATTERN_VALUES = 256 * 4099
_SMALL_PATTERN_VALUES = 256 * 251
_ALIGNMENT = 32


@dataclass(frozen=True)
class RandomModel:
    """A model in memory, as ``_core.Engine`` takes it: `tensors` are (name, ggml type, shape with ne0 first, offset, bytes)."""

    name: str
    size: Size
    file_type: str
    config: dict[str, int | float]
    tensors: list[tuple[str, int, tuple[int, ...], int, int]]
    data: npt.NDArray[np.uint8]

    def write(self, path: str | os.PathLike[str]) -> None:
        """The same model as a GGUF file, with a vocabulary of made-up tokens, for a program that reads files."""
        writer = gguf.GGUFWriter(str(path), "rwkv7")
        c = self.config
        writer.add_string("general.name", self.name)
        writer.add_uint32("general.file_type", FILE_TYPES[self.file_type].number)
        for key, name in (
            ("context_length", "context_length"), ("embedding_length", "n_embd"), ("block_count", "n_layer"),
            ("wkv.head_size", "head_size"), ("attention.decay_lora_rank", "decay_rank"), ("attention.iclr_lora_rank", "iclr_rank"),
            ("attention.value_residual_mix_lora_rank", "value_rank"), ("attention.gate_lora_rank", "gate_rank"),
            ("feed_forward_length", "n_ff"),
        ):  # fmt: skip
            writer.add_uint32(f"rwkv7.{key}", int(c[name]))
        writer.add_uint32("rwkv7.attention.head_count", 0)
        writer.add_float32("rwkv7.attention.layer_norm_epsilon", float(c["layer_norm_epsilon"]))
        writer.add_string("tokenizer.ggml.model", "rwkv")
        for token in ("bos", "eos", "eot"):
            writer.add_uint32(f"tokenizer.ggml.{token}_token_id", 0)
        # In the spelling of a Python literal, as the converter stores them: <s>, the single bytes, then "<n>".
        bytes_ = [repr(bytes([i]))[2:-1] for i in range(256)]
        writer.add_token_list(["<s>", *bytes_, *(f"<{i}>" for i in range(257, self.size.n_vocab))])
        kinds = [int(gguf.TokenType.CONTROL)] + [int(gguf.TokenType.NORMAL)] * (self.size.n_vocab - 1)
        writer.add_token_types(kinds)
        for name, ggml_type, ne, offset, n_bytes in self.tensors:
            kind = gguf.GGMLQuantizationType(ggml_type)
            row_bytes = gguf.quant_shape_to_byte_shape((ne[0],), kind)[0]
            rows = self.data[offset : offset + n_bytes].reshape(*ne[:0:-1], row_bytes)
            writer.add_tensor(name, rows, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def random_model(spec: str, seed: int = 0) -> RandomModel:
    """The model that ``SIZE:TYPE`` names, for instance ``2.9b:q4_k_m``: a key of `SIZES` and one of `quantize.FILE_TYPES`; without a
    type q4_k_m. Its LoRAs are F16, that of the decay F32, as the converter writes them.

    InputError for an unknown name, or where this machine's memory cannot hold the model; MemoryError where the process may not take
    that much.
    """
    size_name, size, file_type, shapes = _named(spec)
    total = _total_bytes(shapes)
    room = available_memory()
    if room is not None and total > room:
        raise InputError(
            f"[random] {spec}: the model needs {total / 1e9:.1f} GB of memory, this machine has {room / 1e9:.1f} GB available"
        )
    return _fill(f"random {size_name} {file_type}", size, file_type, shapes, _Patterns(seed, _PATTERN_VALUES))


def tensor_sizes(spec: str) -> tuple[Size, list[tuple[str, tuple[int, ...], int]]]:
    """Of the model that `random_model` would make: its size, and (name, shape with ne0 first, bytes) of every tensor."""
    _, size, _, shapes = _named(spec)
    return size, [(name, ne, _n_bytes(ne, type_name)) for name, ne, type_name, _ in shapes]


def _named(spec: str) -> tuple[str, Size, str, list[_Entry]]:
    size_name, _, file_type = spec.lower().partition(":")
    file_type = file_type or "q4_k_m"
    if size_name not in SIZES:
        raise InputError(f"[random] {spec!r}: unknown size {size_name!r}; expected one of {', '.join(SIZES)}")
    if file_type not in FILE_TYPES:
        raise InputError(f"[random] {spec!r}: unknown type {file_type!r}; expected one of {', '.join(FILE_TYPES)}")
    size = SIZES[size_name]
    kind = FILE_TYPES[file_type]
    lora_type = "F16" if file_type != "f32" else "F32"
    shapes = _shapes(size, TensorTypes(kind.matrices, kind.matrices, kind.output, lora_type, "F32"))
    return size_name, size, file_type, shapes


@dataclass(frozen=True)
class TensorTypes:
    """Names of tensor types: embedding, matrices, output matrix, LoRAs and the decay's LoRA."""

    embedding: str
    matrices: str
    output: str
    loras: str
    decay_loras: str


def small_random_model(size: Size, types: TensorTypes, seed: int = 0) -> RandomModel:
    """A model of any size and types, quickly made: its weights repeat after 64256 values. For a type of 256-value blocks n_embd, and for
    such LoRAs the ranks, are multiples of 256."""
    return _fill("random", size, types.matrices, _shapes(size, types), _Patterns(seed, _SMALL_PATTERN_VALUES))


def _fill(name: str, size: Size, file_type: str, shapes: list[_Entry], patterns: _Patterns) -> RandomModel:
    data = _own_pages(_total_bytes(shapes))
    tensors = []
    at = 0
    for tensor, ne, type_name, spread in shapes:
        n_bytes = _n_bytes(ne, type_name)
        patterns.fill(data[at : at + n_bytes], type_name, spread)
        tensors.append((tensor, int(gguf.GGMLQuantizationType[type_name]), ne, at, n_bytes))
        at += -(-n_bytes // _ALIGNMENT) * _ALIGNMENT
    decay, iclr, value, gate = size.ranks
    config: dict[str, int | float] = {
        "n_layer": size.n_layer, "n_embd": size.n_embd, "n_ff": size.n_ff, "head_size": size.head_size, "n_vocab": size.n_vocab,
        "context_length": 4096, "layer_norm_epsilon": 1e-5, "decay_rank": decay, "iclr_rank": iclr, "value_rank": value,
        "gate_rank": gate, "token_shift_count": 2,
    }  # fmt: skip
    return RandomModel(name, size, file_type, config, tensors, data)


def _own_pages(n_bytes: int) -> npt.NDArray[np.uint8]:
    """Zeros, uint8 [n_bytes], in pages of their own as those of a file are: Metal takes them without a copy, but nothing of malloc's.
    MemoryError where the system gives none."""
    try:
        if not hasattr(mmap, "MAP_ANONYMOUS"):
            return np.frombuffer(mmap.mmap(-1, n_bytes), np.uint8)
        pages = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:  # which would read as a file's
        raise MemoryError(f"{n_bytes / 1e9:.1f} GB for a random model: {error.strerror}") from None
    if hasattr(mmap, "MADV_HUGEPAGE"):  # as numpy does
        with contextlib.suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


def available_memory() -> int | None:
    """Bytes of memory that a program can still take, None where the system does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


@dataclass(frozen=True)
class _Spread:
    """Values mean + deviation * normal; `ramp`: from mean at channel 0 up by `ramp` at the last."""

    deviation: float
    mean: float = 0.0
    ramp: float = 0.0


_Entry = tuple[str, tuple[int, ...], str, _Spread]


def _shapes(size: Size, types: TensorTypes) -> list[_Entry]:
    """Every tensor: name, shape, type, how its values are spread."""
    c, f, v = size.n_embd, size.n_ff, size.n_vocab
    entries: list[_Entry] = []

    def vector(name: str, mean: float, deviation: float, *, rows: int = 1, ramp: float = 0.0) -> None:
        ne = (c, 1, 1, rows) if rows > 1 else (c,)
        entries.append((f"{name}.weight", ne, "F32", _Spread(deviation, mean, ramp)))

    def matrix(name: str, rows: int, columns: int, type_name: str, scale: float) -> None:
        entries.append((f"{name}.weight", (columns, rows), type_name, _Spread(scale / math.sqrt(columns))))

    def norm(name: str) -> None:
        for part, mean in (("weight", 1.0), ("bias", 0.0)):
            entries.append((f"{name}.{part}", (c,), "F32", _Spread(0.1, mean)))

    entries.append(("token_embd.weight", (c, v), types.embedding, _Spread(0.5)))
    norm("token_embd_norm")
    for i in range(size.n_layer):
        b = f"blk.{i}."
        for name in ("attn_norm", "attn_norm_2", "time_mix_ln"):
            norm(b + name)
        vector(b + "time_mix_lerp_fused", 0.5, 0.1, rows=6)
        vector(b + "channel_mix_lerp_k", 0.5, 0.1)
        vector(b + "time_mix_w0", -6.5, 0.3, ramp=5.0)
        vector(b + "time_mix_a0", 0.0, 0.5)
        vector(b + "time_mix_v0", 0.7, 0.3)
        vector(b + "time_mix_k_k", 0.85, 0.1)
        vector(b + "time_mix_k_a", 1.0, 0.05)
        vector(b + "time_mix_r_k", 0.0, 0.1)
        for letter, rank, out in zip("wavg", size.ranks, (0.5, 0.5, 0.5, 2.0), strict=True):
            kind = types.decay_loras if letter == "w" else types.loras
            if letter == "v" and i == 0:
                rank = size.ranks[1]  # nothing reads it; the converter puts a copy of the one before there, and llama.cpp checks
            matrix(f"{b}time_mix_{letter}1", rank, c, kind, 1.0)
            matrix(f"{b}time_mix_{letter}2", c, rank, kind, out)
        for name, scale in (("receptance", 1.0), ("key", 0.5), ("value", 1.0), ("output", 0.5)):
            matrix(f"{b}time_mix_{name}", c, c, types.matrices, scale)
        matrix(b + "channel_mix_key", f, c, types.matrices, 1.0)
        matrix(b + "channel_mix_value", c, f, types.matrices, 0.5)
    norm("output_norm")
    matrix("output", v, c, types.output, 2.0)
    return entries


def _n_bytes(ne: tuple[int, ...], type_name: str) -> int:
    block_values, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_name]]
    return math.prod(ne) // block_values * block_bytes


def _total_bytes(shapes: list[_Entry]) -> int:
    return sum(-(-_n_bytes(ne, type_name) // _ALIGNMENT) * _ALIGNMENT for _, ne, type_name, _ in shapes)


class _Patterns:
    """Encoded random values, made once for each type and spread and repeated to fill a tensor."""

    def __init__(self, seed: int, n_values: int) -> None:
        self._normal = np.random.default_rng(seed).standard_normal(n_values).astype(np.float32)
        self._encoded: dict[tuple[str, float], npt.NDArray[np.uint8]] = {}

    def fill(self, out: npt.NDArray[np.uint8], type_name: str, spread: _Spread) -> None:
        if type_name == "F32" and (spread.mean or spread.ramp):  # a vector
            n = len(out) // 4
            values = spread.mean + spread.deviation * self._normal[:n] + spread.ramp * np.linspace(0, 1, n)
            out[:] = values.astype(np.float32).view(np.uint8)
            return
        key = (type_name, spread.deviation)
        if key not in self._encoded:
            matrix = (self._normal * np.float32(spread.deviation)).reshape(-1, 256)
            kind = int(gguf.GGMLQuantizationType[type_name])
            self._encoded[key] = np.frombuffer(_core.quantize(matrix, kind), np.uint8)
        pattern = self._encoded[key]
        whole = len(out) // len(pattern) * len(pattern)
        out[:whole].reshape(-1, len(pattern))[:] = pattern
        out[whole:] = pattern[: len(out) - whole]
