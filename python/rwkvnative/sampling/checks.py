"""Checks of sampling parameters. Each failure is one sentence that names the parameter, the range and the value."""

from __future__ import annotations

import math
import numbers
from typing import Any

from ..errors import InputError

__all__ = ["bias", "boolean", "integer", "number"]


def _range(low: float | None, high: float | None, above: float | None) -> str:
    lower = f" > {above:g}" if above is not None else f" >= {low:g}" if low is not None else ""
    upper = f" <= {high:g}" if high is not None else ""
    return lower + (" and" if lower and upper else "") + upper


def number(
    name: str, value: Any, *, low: float | None = None, high: float | None = None, above: float | None = None
) -> float:
    """value as a finite float within [low, high], or above `above`; InputError otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"[sampling] {name}: expected a number, got {value!r} ({type(value).__name__})")
    x = float(value)
    if not math.isfinite(x):
        raise InputError(f"[sampling] {name}: expected a finite number{_range(low, high, above)}, got {x}")
    if (low is not None and x < low) or (high is not None and x > high) or (above is not None and x <= above):
        raise InputError(f"[sampling] {name}: expected a number{_range(low, high, above)}, got {x:g}")
    return x


def integer(name: str, value: Any, *, low: int | None = None, high: int | None = None) -> int:
    """value as an int within [low, high]; InputError otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InputError(f"[sampling] {name}: expected a whole number, got {value!r} ({type(value).__name__})")
    n = int(value)
    if (low is not None and n < low) or (high is not None and n > high):
        raise InputError(f"[sampling] {name}: expected a whole number{_range(low, high, None)}, got {n}")
    return n


def bias(name: str, value: Any) -> float:
    """value as a float that may be added to a logit: finite, or -inf to ban the token; InputError otherwise."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and float(value) == -math.inf:
        return -math.inf
    return number(name, value, low=-1e6, high=1e6)


def boolean(name: str, value: Any) -> bool:
    """value as a bool; InputError otherwise."""
    if not isinstance(value, bool):
        raise InputError(f"[sampling] {name}: expected True or False, got {value!r} ({type(value).__name__})")
    return value
