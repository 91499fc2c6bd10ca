"""Reading GGUF files: the container (header, metadata, tensor directory), every field checked before it is used.

Format: GGUF versions 2 and 3, little-endian, as written by the ``gguf`` package, which also gives us the enums and the
block sizes. Its own ``GGUFReader`` is not used: on a file with a 65536-token list it takes 1.5 s and 119 MB (a
numpy view per token; this reader: 0.02 s), and it believes the counts and offsets of the file.

Layout of a file::

    "GGUF"  u32 version  u64 n_tensors  u64 n_keys
    n_keys    x { string key, u32 value type, value }              string = u64 length, bytes
    n_tensors x { string name, u32 n_dims, u64 ne[n_dims], u32 ggml type, u64 offset }
    padding to general.alignment (default 32), then the tensor data; offsets count from here
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType

from .errors import FileError
from .file_kind import describe_foreign_file
from .files import printable
from .gguf_cursor import Cursor, TensorEntry

__all__ = ["GgufFile", "TensorInfo"]

_MAX_KEYS = _MAX_TENSORS = 1 << 16  # real files: a few dozen keys, under 2000 tensors
_ALIGNMENTS = [1 << i for i in range(3, 21)]  # the format asks for a multiple of 8, and aligned float loads rely on it
_SMALLEST_KEY = 8 + 1 + 4 + 1  # length, one byte of key, type, one byte of value
_SMALLEST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8  # length, one byte of name, n_dims, one dimension, type, offset

# Tensor types that once had a number and no longer exist (ggml.h keeps the gaps).
_RETIRED_TYPES = {
    4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8",
    36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8",
}  # fmt: skip
_TYPE_BY_NUMBER = {int(t): t for t in GGMLQuantizationType}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies. ``shape_ne`` is in GGML order: ne0, the contiguous dimension, first. ``offset`` counts from
    the start of the file, in bytes."""

    name: str
    ggml_type: int
    type_name: str
    shape_ne: tuple[int, ...]
    offset: int
    n_bytes: int


class GgufFile:
    """A GGUF file, mapped read-only. Opening it parses and checks everything but the tensor data itself.

    Attributes:
        path: the path as given.
        version: 2 or 3.
        metadata: keys in file order. Numbers and bools are Python scalars, strings ``str`` (bytes that are not UTF-8
            survive as ``surrogateescape``), arrays of strings ``list[str]``, arrays of numbers 1-D numpy arrays, arrays
            of arrays lists.
        tensors: name to :class:`TensorInfo`, in file order.
        data: read-only memoryview of the whole file. Bytes are read from disk when touched.

    Raises:
        FileError: the file cannot be read, is not a GGUF, or any of its fields is out of bounds.

    The mapping stays alive as long as ``data`` or a view of it is in use, also after ``close()``. A file must not be
    truncated while it is mapped (the operating system kills readers of a mapping that lost its pages) unless a Model has it
    open, which watches it and turns that into an error."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = os.fspath(path)
        self.version = 0
        self.metadata: dict[str, Any] = {}
        self.tensors: dict[str, TensorInfo] = {}
        self.data = self._map()
        try:
            self._parse()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> GgufFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"GgufFile({self.path!r}, {len(self.metadata)} keys, {len(self.tensors)} tensors)"

    def close(self) -> None:
        """Let go of the mapping. What was handed out earlier (an engine's weights, arrays, ``data``) keeps it alive."""
        self.data = memoryview(b"")

    def tensor_bytes(self, name: str) -> memoryview:
        """The stored bytes of a tensor, read-only and without a copy. ``FileError`` if the file has no such tensor."""
        info = self._tensor(name)
        if not self.data:
            self._fail(f"tensor '{name}': the file was closed")
        return self.data[info.offset : info.offset + info.n_bytes]

    def to_numpy(self, name: str) -> npt.NDArray[np.floating[Any]]:
        """An F32 or F16 tensor as a read-only numpy view, shape in numpy order (the reverse of ``shape_ne``)."""
        info = self._tensor(name)
        kinds = {int(GGMLQuantizationType.F32): "<f4", int(GGMLQuantizationType.F16): "<f2"}
        if info.ggml_type not in kinds:
            self._fail(f"tensor '{name}': to_numpy reads F32 and F16, got {info.type_name}")
        return np.frombuffer(self.tensor_bytes(name), dtype=kinds[info.ggml_type]).reshape(info.shape_ne[::-1])

    def check_tensor_types(self, supported: Iterable[int]) -> None:
        """Raise a ``FileError`` that names the first tensor whose type is not one of the ``supported`` ggml numbers."""
        known = sorted(set(supported))
        for info in self.tensors.values():
            if info.ggml_type not in known:
                names = ", ".join(_TYPE_BY_NUMBER[t].name if t in _TYPE_BY_NUMBER else str(t) for t in known)
                got = f"type {info.type_name} (number {info.ggml_type})"
                self._fail(f"tensor '{info.name}': cannot run {got}; expected one of {names}")

    # ---- opening ----

    def _fail(self, message: str) -> NoReturn:
        raise FileError(f"[gguf] {printable(os.fsdecode(self.path))}: {message}")

    def _tensor(self, name: str) -> TensorInfo:
        info = self.tensors.get(name)
        if info is None:
            self._fail(f"tensor '{name}' is missing (the file has {len(self.tensors)} tensors)")
        return info

    def _map(self) -> memoryview:
        try:
            mode = os.stat(self.path).st_mode  # before open(): opening a pipe would wait for a writer
            if stat.S_ISDIR(mode):
                self._fail("expected a GGUF file, got a directory")
            if not stat.S_ISREG(mode):
                self._fail("expected a regular file, got a device, pipe or socket")
            with open(self.path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size == 0:
                    self._fail("the file is empty (0 bytes)")
                return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))
        except FileError:
            raise
        except FileNotFoundError:
            self._fail("no such file")
        except PermissionError:
            self._fail("no permission to read it")
        except (OSError, ValueError, OverflowError) as error:  # ValueError: a NUL in the path, or it shrank before mmap
            self._fail(f"cannot open or map it: {getattr(error, 'strerror', None) or error}")

    # ---- parsing ----

    def _parse(self) -> None:
        head = bytes(self.data[:24])
        if head[:4] != b"GGUF":
            if b"GGUF".startswith(head):
                self._fail(f"the file ends after {len(head)} bytes, inside the magic: truncated download?")
            self._fail(f"not a GGUF file: {describe_foreign_file(bytes(self.data[:4096]))}")
        if len(head) < 24:
            self._fail(f"the header takes 24 bytes, the file has {len(head)}: truncated download?")
        version, n_tensors, n_keys = struct.unpack("<IQQ", head[4:])
        self._check_version(version)
        self.version = version

        cursor = Cursor(self.data, 24, self._fail)
        left = len(self.data) - 24
        for what, count, smallest, most in (
            ("keys", n_keys, _SMALLEST_KEY, _MAX_KEYS),
            ("tensors", n_tensors, _SMALLEST_TENSOR, _MAX_TENSORS),
        ):
            if count > most:
                self._fail(f"the header promises {count} {what}; expected at most {most}: damaged file?")
            if count * smallest > left:
                takes = f"which take at least {count * smallest} bytes, but {left} follow"
                self._fail(f"the header promises {count} {what}, {takes}: truncated download or damaged file?")
        for i in range(n_keys):
            key = cursor.name(f"key {i} of {n_keys}")
            if key in self.metadata:
                self._fail(f"key '{key}' appears twice")
            cursor.where = f"key '{key}'"
            self.metadata[key] = cursor.value(cursor.u32(), 0)
        self._check_split()
        entries = [cursor.tensor_entry(i, n_tensors) for i in range(n_tensors)]
        alignment = self._alignment()
        data_start = -(-cursor.at // alignment) * alignment
        self._place_tensors(entries, data_start, alignment)

    def _check_version(self, version: int) -> None:
        if version in (2, 3):
            return
        if version == 1:
            self._fail("GGUF version 1 is from August 2023; expected version 2 or 3: convert the model again")
        if version and version & 0xFFFF == 0:
            self._fail("a big-endian GGUF file; expected little-endian: convert it with gguf-convert-endian")
        self._fail(f"GGUF version {version} is unknown; expected version 2 or 3")

    def _check_split(self) -> None:
        count = self.metadata.get("split.count", 0)
        if not isinstance(count, int):
            self._fail(f"key 'split.count': expected an integer, got {type(count).__name__}")
        if count > 1:
            number = self.metadata.get("split.no", 0)
            part = number + 1 if isinstance(number, int) else "?"
            self._fail(
                f"part {part} of {count} of a split model; expected one file: join them with llama-gguf-split --merge"
            )

    def _alignment(self) -> int:
        alignment = self.metadata.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
        if isinstance(alignment, int) and alignment in _ALIGNMENTS:
            return alignment
        got = alignment if isinstance(alignment, (int, float)) else type(alignment).__name__
        wanted = f"a power of two from {_ALIGNMENTS[0]} to {_ALIGNMENTS[-1]}"
        self._fail(f"key 'general.alignment': expected {wanted}, got {got}")

    def _place_tensors(self, entries: list[TensorEntry], data_start: int, alignment: int) -> None:
        """Turn directory entries (name, shape, type, offset in the data section) into checked TensorInfo."""
        size = len(self.data)
        for name, shape, ggml_type, offset in entries:
            where = f"tensor '{name}'"
            if name in self.tensors:
                self._fail(f"{where} appears twice")
            known = _TYPE_BY_NUMBER.get(ggml_type)
            if known is None:
                retired = _RETIRED_TYPES.get(ggml_type)
                what = (
                    f"{retired}, which was removed from the format: quantize the model again" if retired else "unknown"
                )
                self._fail(f"{where}: type number {ggml_type} is {what} (as far as the installed gguf package knows)")
            if 0 in shape:
                self._fail(f"{where}: shape {list(shape)} has a zero dimension")
            block_values, block_bytes = GGML_QUANT_SIZES[known]
            if shape[0] % block_values:
                self._fail(f"{where}: ne0 must be a multiple of {block_values} for {known.name}, got {shape[0]}")
            n_values = 1
            for ne in shape:
                n_values *= ne
            n_bytes = n_values // block_values * block_bytes
            if n_bytes >= 1 << 63:
                self._fail(f"{where}: shape {list(shape)} overflows 64 bits")
            if offset % alignment:
                self._fail(f"{where}: offset {offset} is not a multiple of the alignment {alignment}")
            start, stop = data_start + offset, data_start + offset + n_bytes
            if stop > size:
                self._fail(f"{where}: its data ends at byte {stop}, the file has {size}: truncated download?")
            self.tensors[name] = TensorInfo(name, ggml_type, known.name, shape, start, n_bytes)
        end, before = data_start, ""
        for info in sorted(self.tensors.values(), key=lambda t: t.offset):
            if info.offset < end:
                self._fail(f"tensor '{info.name}' at byte {info.offset} overlaps '{before}', which ends at {end}")
            end, before = info.offset + info.n_bytes, info.name
