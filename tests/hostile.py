"""Damaged GGUF files: every way we could think of to break one good file, as (label, bytes).

``mutations(base)`` is deterministic. It knows the file's structure from its own small walker (not the loader under
test), so it can aim at every count, length, type and offset, and cut the file at every boundary. Other tests may run
the same files through ``Model``.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_SCALAR_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class Field:
    """One field of the file: its name for people, where it is, how it is packed ("" for raw bytes)."""

    label: str
    at: int
    size: int
    format: str


def walk(data: bytes) -> tuple[list[Field], int]:
    """All fields of a good file up to the tensor data, and where that data starts. Of arrays: two items at each end."""
    fields: list[Field] = []
    at = 0

    def take(label: str, format: str) -> int:
        nonlocal at
        size = struct.calcsize(format)
        fields.append(Field(label, at, size, format))
        (value,) = struct.unpack_from(format, data, at)
        at += size
        return value

    def take_string(label: str, keep: bool = True) -> str:
        nonlocal at
        kept = len(fields)
        length = take(f"{label} length", "<Q")
        fields.append(Field(f"{label} bytes", at, length, ""))
        at += length
        if not keep:
            del fields[kept:]
        return data[at - length : at].decode("utf-8", "surrogateescape")

    take("magic", "<I")
    take("version", "<I")
    n_tensors, n_keys = take("tensor count", "<Q"), take("key count", "<Q")
    for _ in range(n_keys):
        length = struct.unpack_from("<Q", data, at)[0]
        label = data[at + 8 : at + 8 + length].decode()
        take_string(f"key {label}")
        kind = take(f"{label} type", "<I")
        if kind == _STRING:
            take_string(f"{label} value")
        elif kind == _ARRAY:
            item_kind, count = take(f"{label} item type", "<I"), take(f"{label} count", "<Q")
            for i in range(count):
                keep = i < 2 or i >= count - 2
                if item_kind == _STRING:
                    take_string(f"{label}[{i}]", keep)
                else:
                    take(f"{label}[{i}]", _SCALAR_FORMATS[item_kind])
                    if not keep:
                        fields.pop()
        else:
            take(f"{label} value", _SCALAR_FORMATS[kind])
    for _ in range(n_tensors):
        length = struct.unpack_from("<Q", data, at)[0]
        label = "tensor " + data[at + 8 : at + 8 + length].decode()
        take_string(label)
        for d in range(take(f"{label} n_dims", "<I")):
            take(f"{label} ne{d}", "<Q")
        take(f"{label} type", "<I")
        take(f"{label} offset", "<Q")
    return fields, -(-at // 32) * 32


def _with(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _bad_values(field: Field, value: int | float, size: int) -> list[int | float]:
    if field.format in ("<f", "<d"):
        return [float("nan"), float("inf"), float("-inf"), 0.0, -1.0, 1e30]
    bits = 8 * field.size
    top = (1 << (bits - 1)) - 1 if field.format in ("<b", "<h", "<i", "<q") else (1 << bits) - 1
    candidates = [0, 1, 5, 7, 31, 99, value - 1, value + 1, value * 2, size, size - field.at, top, top - 1]
    candidates += [1 << 16, 1 << 31, 1 << 32, 1 << 40, (1 << 61) + 1, 1 << 62, 1 << 63]
    if field.format == "<I":
        candidates += range(15)  # every value type, and tensor types around the ones in use
    return sorted({c for c in candidates if 0 <= c <= top and c != value})


def mutations(base: bytes, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Some thousands of damaged copies of ``base``, a good GGUF v3 file of at most some tens of kilobytes."""
    fields, data_start = walk(base)
    yield from _truncations(base, fields, data_start)
    yield from _bad_numbers(base, fields)
    yield from _clashes(base, fields)
    yield from _random_damage(base, data_start, random.Random(seed))


def _truncations(base: bytes, fields: list[Field], data_start: int) -> Iterator[tuple[str, bytes]]:
    for field in fields:
        yield f"cut before {field.label}", base[: field.at]
        if field.size > 1:
            yield f"cut inside {field.label}", base[: field.at + field.size // 2]
    for label, at in (
        ("at the data", data_start),
        ("in the padding", data_start - 1),
        ("mid data", (data_start + len(base)) // 2),
    ):
        yield f"cut {label}", base[:at]
    yield "cut the last 64 bytes", base[:-64]


def _bad_numbers(base: bytes, fields: list[Field]) -> Iterator[tuple[str, bytes]]:
    for field in fields:
        if field.format:
            value = struct.unpack_from(field.format, base, field.at)[0]
            for bad in _bad_values(field, value, len(base)):
                yield f"{field.label} {value} -> {bad}", _with(base, field.at, struct.pack(field.format, bad))
        elif field.size:
            yield f"{field.label} not UTF-8", _with(base, field.at, b"\xff")
            yield f"{field.label} with NUL", _with(base, field.at, b"\0")
            yield f"{field.label} with a terminal escape", _with(base, field.at, b"\x1b")


def _clashes(base: bytes, fields: list[Field]) -> Iterator[tuple[str, bytes]]:
    """Things that are fine alone: equal names, overlapping tensors, another architecture or container."""
    names = [f for f in fields if not f.format and (f.label.startswith("key ") or f.label.startswith("tensor "))]
    for first in names:
        for second in names:
            same_kind = first.label[:4] == second.label[:4]
            if first.at < second.at and first.size == second.size and same_kind:
                yield (
                    f"{second.label} renamed to {first.label}",
                    _with(base, second.at, base[first.at : first.at + first.size]),
                )
                break
    offsets = [f for f in fields if f.label.endswith(" offset")]
    for one, other in zip(offsets, offsets[1:]):
        yield f"{other.label} = {one.label}", _with(base, other.at, base[one.at : one.at + 8])
        middle = struct.unpack_from("<Q", base, other.at)[0] - 32
        if middle > 0:
            yield f"{other.label} overlaps by 32", _with(base, other.at, struct.pack("<Q", middle))
    yield "two files joined", base + base
    yield "version 1", _with(base, 4, struct.pack("<I", 1))
    yield "big-endian version", _with(base, 4, struct.pack(">I", 3))
    yield "lower case magic", _with(base, 0, b"gguf")
    yield "all zeros after the header", base[:24] + bytes(len(base) - 24)
    yield "all ones after the header", base[:24] + b"\xff" * (len(base) - 24)
    nested = struct.pack("<Q", 1) + b"a" + struct.pack("<I", _ARRAY) + struct.pack("<IQ", _ARRAY, 1) * 3000
    yield "an array nested 3000 deep", base[:8] + struct.pack("<QQ", 0, 1) + nested
    wide = (
        struct.pack("<Q", 1) + b"a" + struct.pack("<I", _ARRAY) + struct.pack("<IQ", _ARRAY, 1 << 18) + bytes(12 << 18)
    )
    yield "a quarter of a million nested arrays", base[:8] + struct.pack("<QQ", 0, 1) + wide
    strings = struct.pack("<Q", 1) + b"a" + struct.pack("<I", _ARRAY) + struct.pack("<IQ", _STRING, 1 << 18)
    yield "a quarter of a million empty strings", base[:8] + struct.pack("<QQ", 0, 1) + strings + bytes(8 << 18)


def _random_damage(base: bytes, data_start: int, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    for i in range(400):
        at, bit = rng.randrange(data_start), rng.randrange(8)
        yield f"flip {i}: bit {bit} of byte {at}", _with(base, at, bytes([base[at] ^ 1 << bit]))
    for i in range(100):
        damaged = bytearray(base)
        for _ in range(rng.randrange(2, 40)):
            damaged[rng.randrange(data_start)] = rng.randrange(256)
        yield f"noise {i}", bytes(damaged)
    for i in range(60):
        at, n = rng.randrange(data_start), rng.randrange(1, 64)
        yield f"removed {i}: {n} bytes at {at}", base[:at] + base[at + n :]
        yield f"inserted {i}: {n} bytes at {at}", base[:at] + rng.randbytes(n) + base[at:]
        source = rng.randrange(data_start)
        yield f"moved {i}: {n} bytes from {source} to {at}", _with(base, at, base[source : source + n])[: len(base)]
