"""Amounts of memory as people write them."""

from __future__ import annotations

import numbers
import os
import re

from .errors import InputError

__all__ = ["MAX_DEVICE_MEMORY", "max_device_memory", "parse_bytes"]

MAX_DEVICE_MEMORY = "RWKVNATIVE_MAX_DEVICE_MEMORY"  # the variable that stands in for Model(max_device_memory=...)

_UNITS = {"": 1, "B": 1, **{f"{p}B": 1000**i for i, p in enumerate("KMGT", 1)}, **{f"{p}IB": 1024**i for i, p in enumerate("KMGT", 1)}}


def parse_bytes(value: int | str, what: str) -> int:
    """A number of bytes, at least 1: a whole number, or text such as "4GiB" (1024s), "500 MB" (1000s), "1.5GiB" or "4096".

    `what` names the setting in the InputError for anything else.
    """
    wanted = "expected bytes as a whole number from 1 up, or text such as '4GiB' or '500MB'"
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
        if match is None or match[2].upper() not in _UNITS:
            raise InputError(f"{what}: {wanted}, got {value!r}")
        if len(match[1]) > 30:  # too many for a number of Python's, and for any memory
            raise InputError(f"{what}: {wanted}, got {value[:40]!r}...")
        n_bytes = int(float(match[1]) * _UNITS[match[2].upper()]) if "." in match[1] else int(match[1]) * _UNITS[match[2].upper()]
    elif isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InputError(f"{what}: {wanted}, got {value!r}")
    else:
        n_bytes = int(value)
    if not 1 <= n_bytes < 1 << 63:
        raise InputError(f"{what}: {wanted}, got {value!r}")
    return n_bytes


def max_device_memory(value: int | str | None) -> int:
    """The budget in bytes: the argument, else the environment's, else 0 for none."""
    if value is not None:
        return parse_bytes(value, "[model] max_device_memory")
    text = os.environ.get(MAX_DEVICE_MEMORY, "")
    return parse_bytes(text, f"[model] {MAX_DEVICE_MEMORY}") if text else 0
