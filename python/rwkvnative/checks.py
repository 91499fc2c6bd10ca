"""Checks of arguments. Each failure is one sentence that names the argument, the range and the value; `where` is the part of the
package that it begins with."""

from __future__ import annotations

import math
import numbers
from typing import Any, Final

from .errors import InputError

__all__ = ["MOST", "bias", "boolean", "callback", "integer", "number"]

MOST: Final = 2**31 - 1  # of counts that go to a device, where they have 32 bits


def _range(low: float | None, high: float | None, above: float | None) -> str:
    lower = f" > {above:g}" if above is not None else f" >= {low:g}" if low is not None else ""
    upper = f" <= {high:g}" if high is not None else ""
    return lower + (" and" if lower and upper else "") + upper


def number(
    name: str,
    value: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    where: str = "sampling",
) -> float:
    """value as a finite float within [low, high], or above `above`; InputError otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"[{where}] {name}: expected a number, got {value!r} ({type(value).__name__})")
    try:
        x = float(value)
    except OverflowError:  # a whole number past 1e308
        x = math.inf if int(math.floor(value)) > 0 else -math.inf
    if not math.isfinite(x):
        raise InputError(f"[{where}] {name}: expected a finite number{_range(low, high, above)}, got {x}")
    if (low is not None and x < low) or (high is not None and x > high) or (above is not None and x <= above):
        raise InputError(f"[{where}] {name}: expected a number{_range(low, high, above)}, got {x:g}")
    return x


def integer(name: str, value: Any, *, low: int | None = None, high: int | None = None, where: str = "sampling") -> int:
    """value as an int within [low, high]; InputError otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InputError(f"[{where}] {name}: expected a whole number, got {value!r} ({type(value).__name__})")
    n = int(value)
    if (low is not None and n < low) or (high is not None and n > high):
        lower = "" if low is None else f" >= {low}"
        upper = "" if high is None else f" and <= {high}" if lower else f" <= {high}"
        got = str(n) if n.bit_length() <= 64 else f"a {'negative ' if n < 0 else ''}number of {n.bit_length()} bits"
        raise InputError(f"[{where}] {name}: expected a whole number{lower}{upper}, got {got}")
    return n


def bias(name: str, value: Any) -> float:
    """value as a float that may be added to a logit: finite, or -inf to ban the token; InputError otherwise."""
    if isinstance(value, numbers.Real) and value == -math.inf:
        return -math.inf
    return number(name, value, low=-1e6, high=1e6)


def boolean(name: str, value: Any, *, where: str) -> bool:
    """value as a bool; InputError otherwise."""
    if not isinstance(value, bool):
        raise InputError(f"[{where}] {name}: expected True or False, got {value!r} ({type(value).__name__})")
    return value


def callback(name: str, value: Any, *, where: str) -> None:
    """InputError if value is neither None nor something to call."""
    if value is not None and not callable(value):
        raise InputError(f"[{where}] {name}: expected a function or None, got {value!r} ({type(value).__name__})")
