"""A device's measured ceilings, and what they allow: the roofline."""

from __future__ import annotations

from .. import _core

__all__ = ["arithmetic_rate", "describe", "least_seconds", "measured"]

_RATES = ("int8_per_second", "f16_per_second", "f32_per_second", "matrix_per_second")


def measured(ceilings: _core.Ceilings) -> bool:
    """Whether the backend measured them: without, nothing can be said of the distance from the roofline."""
    return ceilings["read_bytes_per_second"] > 0


def arithmetic_rate(ceilings: _core.Ceilings, arithmetic: str | None = None) -> float:
    """Operations per second at best: of one arithmetic ("f32", "f16", "int8"), or of the fastest one. 0 if not measured."""
    if arithmetic is None:
        return float(max(ceilings[name] for name in _RATES))  # type: ignore[literal-required]
    return float(ceilings[f"{arithmetic}_per_second"])  # type: ignore[literal-required]


def least_seconds(ceilings: _core.Ceilings, n_bytes: float, n_operations: float, arithmetic: str | None = None) -> float:
    """The roofline: the longer of what memory and arithmetic need. 0 if neither is known."""
    memory = ceilings["read_bytes_per_second"]
    rate = arithmetic_rate(ceilings, arithmetic)
    return max(n_bytes / memory if memory else 0.0, n_operations / rate if rate else 0.0)


def describe(ceilings: _core.Ceilings) -> str:
    """One line for a person."""
    if not measured(ceilings):
        return "ceilings: this backend does not measure them"
    parts = [
        f"reads {ceilings['read_bytes_per_second'] / 1e9:.1f} GB/s",
        f"dependent dispatch {ceilings['dispatch_seconds'] * 1e6:.2f} us",
    ]
    for key, name in (("int8", "int8"), ("f16", "f16"), ("f32", "f32"), ("matrix", "f16 matrix")):
        rate = ceilings[f"{key}_per_second"]  # type: ignore[literal-required]
        if rate:
            parts.append(f"{name} {rate / 1e12:.2f} Top/s")
    if ceilings["upload_bytes_per_second"]:
        parts.append(f"upload {ceilings['upload_bytes_per_second'] / 1e9:.1f} GB/s")
    return "ceilings: " + ", ".join(parts)
