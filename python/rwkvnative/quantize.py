"""Quantizing a GGUF file: same model, same metadata, smaller matrices.

The types that each tensor gets are those of llama-quantize for rwkv7, found by running it on synthetic files and comparing tensor by
tensor; ``python/tools/compare_quantizers.py`` repeats the comparison (types and errors) against a llama-quantize binary.
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf.constants import GGUFValueType

from . import _core
from .checks import callback, integer
from .errors import InputError
from .files import NewFile, check_path
from .gguf_file import GgufFile, TensorInfo

__all__ = ["FILE_TYPES", "FileType", "QuantizedFile", "quantize_file"]


@dataclass(frozen=True, slots=True)
class FileType:
    """What a name like ``q4_k_m`` stands for: ``general.file_type`` (llama.cpp's LLAMA_FTYPE numbers), the type of the matrices and
    of ``output.weight``."""

    number: int
    matrices: str
    output: str


# For rwkv7, llama-quantize gives every matrix of a K-quant "mixture" the same type, so _S and _M differ only in their number.
FILE_TYPES: dict[str, FileType] = {
    "f32": FileType(0, "F32", "F32"),
    "f16": FileType(1, "F16", "F16"),
    "bf16": FileType(32, "BF16", "BF16"),
    "q8_0": FileType(7, "Q8_0", "Q8_0"),
    "q4_0": FileType(2, "Q4_0", "Q6_K"),
    "q4_1": FileType(3, "Q4_1", "Q6_K"),
    "q5_0": FileType(8, "Q5_0", "Q6_K"),
    "q5_1": FileType(9, "Q5_1", "Q6_K"),
    "q2_k": FileType(10, "Q2_K", "Q6_K"),
    "q3_k_s": FileType(11, "Q3_K", "Q6_K"),
    "q3_k_m": FileType(12, "Q3_K", "Q6_K"),
    "q3_k_l": FileType(13, "Q3_K", "Q6_K"),
    "q4_k_s": FileType(14, "Q4_K", "Q6_K"),
    "q4_k_m": FileType(15, "Q4_K", "Q6_K"),
    "q5_k_s": FileType(16, "Q5_K", "Q6_K"),
    "q5_k_m": FileType(17, "Q5_K", "Q6_K"),
    "q6_k": FileType(18, "Q6_K", "Q6_K"),
    "iq4_nl": FileType(25, "IQ4_NL", "Q6_K"),
    "iq4_xs": FileType(30, "IQ4_XS", "Q6_K"),
}

# Where ne0 is not a multiple of 256; where it is not one of 32 either, F16.
_FALLBACKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}

# The matrices that are quantized. Everything else (vectors, lerps, and the LoRAs w/a/v/g 1 and 2) keeps the type it has.
_MATRIX = re.compile(r"token_embd\.weight|output\.weight|blk\.\d+\.(time_mix_(receptance|key|value|output)|channel_mix_(key|value))\.weight")

_DTYPES = {row["name"]: row for row in _core.dtypes()}
_NAMES = {row["ggml_type"]: name for name, row in _DTYPES.items()}
_UNQUANTIZED = ("F32", "F16", "BF16")
_VALUES_PER_CHUNK = 1 << 23  # 32 MiB as float32: bounds the memory, and the time between two looks at Ctrl-C
_QUANTIZATION_VERSION = 2  # of the block formats, general.quantization_version


@dataclass(frozen=True, slots=True)
class QuantizedFile:
    """What :func:`quantize_file` wrote: its size, the source's size, and how many tensors have which type."""

    n_bytes: int
    source_bytes: int
    type_counts: dict[str, int]


def quantize_file(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    type: str,
    progress: Callable[[int, int], object] | None = None,
    *,
    allow_requantize: bool = False,
    n_threads: int = 0,
) -> QuantizedFile:
    """Writes the rwkv7 model ``src`` to ``dst`` with its matrices as ``type`` (a key of :data:`FILE_TYPES`, any case).

    Tensors are streamed one after the other; ``dst`` appears only when it is complete, and replaces an older file of that name.

    Args:
        progress: called with (values done, values in all).
        allow_requantize: also accept matrices that are already quantized to another type. The errors add up.
        n_threads: 0 means all.

    Raises:
        InputError: an unknown type or another unusable argument, ``src`` and ``dst`` are the same file, another architecture, a matrix
            that is already quantized, a weight that is not finite (named by tensor, row and column).
        FileError: ``src`` is not a readable GGUF, or has changed meanwhile, or ``dst`` cannot be written.
    """
    file_type = FILE_TYPES.get(type.lower()) if isinstance(type, str) else None
    if file_type is None:
        raise InputError(f"[quantize] unknown type {type!r}; expected one of {', '.join(FILE_TYPES)}")
    integer("n_threads", n_threads, low=0, high=1024, where="quantize")
    callback("progress", progress, where="quantize")
    source, target = Path(check_path(src, "[quantize] source")), Path(check_path(dst, "[quantize] target"))
    if _same_file(source, target):
        raise InputError(f"[quantize] {target}: the output would overwrite the input; expected another path")

    with GgufFile(source) as file:
        architecture = file.metadata.get("general.architecture")
        if architecture != "rwkv7":
            raise InputError(f"[quantize] {source}: expected a model of architecture rwkv7, got {architecture!r}")
        plan = [(info, _target_type(info, file, file_type, allow_requantize)) for info in file.tensors.values()]
        total = sum(_n_values(info) for info, _ in plan)
        done = 0
        watched = _core.ModelFile(os.fsencode(source), file.data)
        with NewFile(target, "[quantize]") as out:
            out.write(_header(file, file_type.number, plan))
            for info, name in plan:
                _pad(out, _alignment(file))
                for chunk, n_values in _converted_chunks(file, info, name, n_threads):
                    watched.check()
                    out.write(chunk)
                    done += n_values
                    if progress is not None:
                        progress(done, total)
            _pad(out, _alignment(file))
            watched.check()
            n_bytes = out.n_bytes
        counts = Counter(name for _, name in plan)
        return QuantizedFile(n_bytes, len(file.data), dict(counts))


# ---- which type ----


def _target_type(info: TensorInfo, file: GgufFile, file_type: FileType, allow_requantize: bool) -> str:
    """The name of the type that a tensor gets."""
    if len(info.shape_ne) < 2 or not _MATRIX.fullmatch(info.name):
        return info.type_name
    is_output = info.name == "output.weight" or (info.name == "token_embd.weight" and "output.weight" not in file.tensors)
    name = file_type.output if is_output else file_type.matrices
    if info.shape_ne[0] % _DTYPES[name]["block_values"]:
        name = _FALLBACKS.get(name, name)
    if info.shape_ne[0] % _DTYPES[name]["block_values"]:
        name = "F16"
    if info.type_name == name or info.type_name in _UNQUANTIZED:
        return name
    if info.type_name not in _DTYPES:
        raise InputError(f"[quantize] tensor '{info.name}': cannot read type {info.type_name}; expected one of {', '.join(_DTYPES)}")
    if not allow_requantize:
        raise InputError(
            f"[quantize] tensor '{info.name}' is already {info.type_name}; expected F32, F16 or BF16: "
            "quantize from the unquantized file (or allow requantizing, which adds up the errors)"
        )
    return name


# ---- tensor data ----


def _n_values(info: TensorInfo) -> int:
    return int(np.prod(info.shape_ne, dtype=np.int64))


def _converted_chunks(file: GgufFile, info: TensorInfo, name: str, n_threads: int) -> Iterator[tuple[bytes | memoryview, int]]:
    """The tensor's bytes as type ``name``, in pieces of whole rows, each with its number of values."""
    raw = file.tensor_bytes(info.name)
    if name == info.type_name:
        yield raw, _n_values(info)
        return
    ne0 = info.shape_ne[0]
    n_rows = _n_values(info) // ne0
    row_bytes = info.n_bytes // n_rows
    step = max(1, _VALUES_PER_CHUNK // ne0)
    for first in range(0, n_rows, step):
        last = min(n_rows, first + step)
        n_values = (last - first) * ne0
        values = _core.dequantize(raw[first * row_bytes : last * row_bytes], info.ggml_type, n_values).reshape(last - first, ne0)
        try:
            yield _core.quantize(values, _DTYPES[name]["ggml_type"], n_threads=n_threads, first_row=first), n_values
        except InputError as error:
            raise InputError(f"[quantize] tensor '{info.name}': {str(error).removeprefix('[quantize] ')}") from None


# ---- the file ----


def _alignment(file: GgufFile) -> int:
    return int(file.metadata.get("general.alignment", 32))


def _pad(out: NewFile, alignment: int) -> None:
    out.write(bytes(-out.n_bytes % alignment))


def _header(file: GgufFile, file_type: int, plan: list[tuple[TensorInfo, str]]) -> bytes:
    """Header, metadata and tensor directory. Keys are copied byte for byte, so that their value types stay what they are."""
    replaced = {"general.file_type": file_type, "general.quantization_version": _QUANTIZATION_VERSION}
    keys = [raw for key, raw in _raw_keys(file) if key not in replaced]
    for key, number in replaced.items():
        keys.append(_string(key) + struct.pack("<II", GGUFValueType.UINT32, number))

    directory, offset = [], 0
    for info, name in plan:
        ggml_type, n_bytes = info.ggml_type, info.n_bytes
        if name != info.type_name:
            ggml_type = _DTYPES[name]["ggml_type"]
            n_bytes = _n_values(info) // _DTYPES[name]["block_values"] * _DTYPES[name]["block_bytes"]
        n_dims = len(info.shape_ne)
        directory.append(_string(info.name) + struct.pack(f"<I{n_dims}QIQ", n_dims, *info.shape_ne, ggml_type, offset))
        offset += n_bytes + -n_bytes % _alignment(file)
    return b"".join([b"GGUF", struct.pack("<IQQ", 3, len(plan), len(keys)), *keys, *directory])


def _string(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def _raw_keys(file: GgufFile) -> Iterator[tuple[str, bytes]]:
    """Each key with the bytes of its whole entry. GgufFile has checked every length on opening."""
    data, at = file.data, 24
    for _ in file.metadata:
        start = at
        length = _u64(data, at)
        key = str(data[at + 8 : at + 8 + length], "utf-8")
        at += 8 + length
        (value_type,) = struct.unpack_from("<I", data, at)
        at = _value_end(data, at + 4, value_type)
        yield key, bytes(data[start:at])


_SCALAR_BYTES = {
    GGUFValueType.UINT8: 1, GGUFValueType.INT8: 1, GGUFValueType.BOOL: 1, GGUFValueType.UINT16: 2, GGUFValueType.INT16: 2,
    GGUFValueType.UINT32: 4, GGUFValueType.INT32: 4, GGUFValueType.FLOAT32: 4,
    GGUFValueType.UINT64: 8, GGUFValueType.INT64: 8, GGUFValueType.FLOAT64: 8,
}  # fmt: skip


def _value_end(data: memoryview, at: int, value_type: int) -> int:
    """Where the value that starts at ``at`` ends."""
    if value_type == GGUFValueType.STRING:
        return at + 8 + _u64(data, at)
    if value_type == GGUFValueType.ARRAY:
        (item_type,) = struct.unpack_from("<I", data, at)
        count = _u64(data, at + 4)
        at += 12
        if item_type in _SCALAR_BYTES:
            return at + count * _SCALAR_BYTES[item_type]
        for _ in range(count):
            at = _value_end(data, at, item_type)
        return at
    return at + _SCALAR_BYTES[GGUFValueType(value_type)]


def _u64(data: memoryview, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _same_file(source: Path, target: Path) -> bool:
    try:
        return os.path.samefile(source, target)
    except (OSError, ValueError):  # one of them does not exist
        try:
            return os.path.abspath(source) == os.path.abspath(target)
        except OSError:  # nor does the working directory
            return False
