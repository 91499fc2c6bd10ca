"""What a variant must pass before the tuner may choose it."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from .tuning_cache import TuningWarning

__all__ = ["MismatchError", "check_logits", "discard"]

# Relative distance of two rows of logits. Another order of sums moves a few int8 activations by a step (seen up to 1e-2); a wrong
# kernel is off by about 1.
_TOLERANCE = 3e-2


class MismatchError(Exception):
    """Logits that are not the default's."""


def check_logits(got: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> None:
    """Both float32 [..., V]; MismatchError where a row is not the reference's but for rounding."""
    errors = np.linalg.norm(got - reference, axis=-1) / np.linalg.norm(reference, axis=-1)
    if not (np.isfinite(errors).all() and errors.max() <= _TOLERANCE):
        raise MismatchError(f"its logits are off by {errors.max():.2g} of their norm, expected at most {_TOLERANCE}")


def discard(discarded: dict[str, str], variant: str, error: Exception) -> None:
    """Note why a variant is out, and warn of it."""
    discarded[variant] = str(error)
    warnings.warn(f"[tune] {variant} is discarded: {error}", TuningWarning, stacklevel=3)
