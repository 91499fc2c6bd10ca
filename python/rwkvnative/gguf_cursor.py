"""The walk over a GGUF's metadata: every read is checked against the end of the file and against fixed limits.

What the file says is believed only as far as the file reaches: a count or length is first compared with the bytes that
are left. A file's size is no proof either (sparse files), so limits far above any real model's bound the time and
memory of parsing."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, NoReturn, Protocol

import numpy as np
import numpy.typing as npt
from gguf.constants import GGUFValueType

__all__ = ["Cursor", "TensorEntry"]

# The largest vocabularies (Gemma's) take 30 MB and 1.4 million array items.
_MAX_METADATA_BYTES = 64 << 20
_MAX_ITEMS = 1 << 21  # of all arrays of a file together
_MAX_NESTED_ARRAYS = 1 << 16
_MAX_ARRAY_DEPTH = 4  # the format allows arrays of arrays; nothing known nests more than twice
_MAX_NAME_BYTES = 65535  # keys and tensor names; the format's own limits are 65535 and 64

_SCALARS: dict[int, struct.Struct] = {
    GGUFValueType.UINT8: struct.Struct("<B"),
    GGUFValueType.INT8: struct.Struct("<b"),
    GGUFValueType.UINT16: struct.Struct("<H"),
    GGUFValueType.INT16: struct.Struct("<h"),
    GGUFValueType.UINT32: struct.Struct("<I"),
    GGUFValueType.INT32: struct.Struct("<i"),
    GGUFValueType.FLOAT32: struct.Struct("<f"),
    GGUFValueType.BOOL: struct.Struct("<B"),
    GGUFValueType.UINT64: struct.Struct("<Q"),
    GGUFValueType.INT64: struct.Struct("<q"),
    GGUFValueType.FLOAT64: struct.Struct("<d"),
}
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class TensorEntry(NamedTuple):
    """A tensor directory entry as the file has it: ``offset`` counts from the start of the data section."""

    name: str
    shape_ne: tuple[int, ...]
    ggml_type: int
    offset: int


class Fail(Protocol):
    """Raises a FileError that names the file."""

    def __call__(self, message: str) -> NoReturn: ...


class Cursor:
    """Walks the metadata. Every read is checked against the end of the file; ``where`` says what is being read."""

    def __init__(self, data: memoryview, at: int, fail: Fail):
        self.data = data
        self.end = min(len(data), _MAX_METADATA_BYTES)
        self.at = at
        self.where = ""
        self.items_left = _MAX_ITEMS
        self.arrays_left = _MAX_NESTED_ARRAYS
        self._fail_in_file = fail

    def fail(self, message: str) -> NoReturn:
        self._fail_in_file(f"{self.where}: {message}")

    def need(self, n_bytes: int, what: str) -> None:
        left = len(self.data) - self.at
        what = f"{what} takes {n_bytes} bytes from byte {self.at} on"
        if n_bytes > left:
            self.fail(
                f"{what}, but only {left} of the file's {len(self.data)} are left: truncated download or damaged?"
            )
        if n_bytes > self.end - self.at:
            self.fail(f"{what}, past the limit of {_MAX_METADATA_BYTES} bytes of metadata: damaged file?")

    def u32(self) -> int:
        self.need(4, "a 32-bit number")
        (value,) = _U32.unpack_from(self.data, self.at)
        self.at += 4
        return int(value)

    def u64(self) -> int:
        self.need(8, "a 64-bit number")
        (value,) = _U64.unpack_from(self.data, self.at)
        self.at += 8
        return int(value)

    def name(self, where: str) -> str:
        """A key or tensor name: non-empty printable UTF-8 (it ends up in messages)."""
        self.where = where
        length = self.u64()
        if length > _MAX_NAME_BYTES:
            self.fail(f"expected a name of at most {_MAX_NAME_BYTES} bytes, got a length of {length}: damaged file?")
        self.need(length, "the name")
        raw = bytes(self.data[self.at : self.at + length])
        self.at += length
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            self.fail(f"the name {raw[:64]!r} is not UTF-8")
        if not text or not text.isprintable():
            self.fail(f"expected a non-empty, printable name, got {text[:64]!r}")
        return text

    def value(self, type_number: int, depth: int) -> Any:
        if type_number == GGUFValueType.STRING:
            return self.strings(1)[0]
        if type_number == GGUFValueType.ARRAY:
            return self.array(depth + 1)
        scalar = _SCALARS.get(type_number)
        if scalar is None:
            self.fail(f"value type {type_number} is unknown; expected 0 to 12")
        self.need(scalar.size, "the value")
        (value,) = scalar.unpack_from(self.data, self.at)
        self.at += scalar.size
        if type_number == GGUFValueType.BOOL:
            if value > 1:
                self.fail(f"expected a bool (0 or 1), got {value}")
            return bool(value)
        return value

    def array(self, depth: int) -> list[Any] | npt.NDArray[Any]:
        if depth > _MAX_ARRAY_DEPTH:
            self.fail(f"arrays nested deeper than {_MAX_ARRAY_DEPTH}")
        item_type, count = self.u32(), self.u64()
        self.items_left -= count
        if self.items_left < 0:
            self.fail(f"an array of {count} items; expected at most {_MAX_ITEMS} in all arrays together: damaged file?")
        if item_type == GGUFValueType.STRING:
            return self.strings(count)
        if item_type == GGUFValueType.ARRAY:
            self.arrays_left -= count
            if self.arrays_left < 0:
                self.fail(f"{count} nested arrays; expected at most {_MAX_NESTED_ARRAYS}: damaged file?")
            self.need(12 * count, f"an array of {count} arrays")
            return [self.array(depth + 1) for _ in range(count)]
        scalar = _SCALARS.get(item_type)
        if scalar is None:
            self.fail(f"array item type {item_type} is unknown; expected 0 to 12")
        self.need(scalar.size * count, f"an array of {count} numbers")
        items = np.frombuffer(self.data, dtype=scalar.format, count=count, offset=self.at).copy()  # pins no mapping
        self.at += scalar.size * count
        if item_type == GGUFValueType.BOOL:
            if np.any(items > 1):
                self.fail(f"expected bools (0 or 1), got {items.max()}")
            return items.astype(bool)
        return items

    def strings(self, count: int) -> list[str]:
        """``count`` strings in a row. This is the loop over the token list, so it does without helper calls."""
        self.need(8 * count, f"an array of {count} strings" if count != 1 else "a string")
        data, end, at, length_at = self.data, self.end, self.at, _U64.unpack_from
        items: list[str] = []
        for i in range(count):
            self.at = at
            if end - at < 8:
                self.need(8, f"the length of string {i} of {count}")
            (length,) = length_at(data, at)
            at += 8
            if length > end - at:
                self.at = at
                self.need(length, f"string {i} of {count}")
            items.append(str(data[at : at + length], "utf-8", "surrogateescape"))
            at += length
        self.at = at
        return items

    def tensor_entry(self, index: int, n_tensors: int) -> TensorEntry:
        name = self.name(f"tensor {index} of {n_tensors}")
        self.where = f"tensor '{name}'"
        n_dims = self.u32()
        if not 1 <= n_dims <= 4:
            self.fail(f"expected 1 to 4 dimensions, got {n_dims}")
        shape = tuple(self.u64() for _ in range(n_dims))
        return TensorEntry(name, shape, self.u32(), self.u64())
