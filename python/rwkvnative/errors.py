"""The one exception family of the package.

Bad input never raises anything else: catching ``RwkvError`` catches all of it. Each class is also the builtin that a
caller would expect (``ValueError``, ``OSError``, ``RuntimeError``), and the C++ core throws the same three
(csrc/core/error.h). A message says what, where, expected and got. The command line exits with status 2 for them.
"""

from __future__ import annotations

__all__ = ["RwkvError", "InputError", "FileError", "DeviceError"]


class RwkvError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(RwkvError, ValueError):
    """An argument is unusable: a token id out of range, an empty prompt, NaN in a sampling parameter, a state of
    another model, text that the vocabulary cannot spell."""


class FileError(RwkvError, OSError):
    """A file is missing, unreadable, truncated, malformed, or holds a model that this package does not run."""


class DeviceError(RwkvError, RuntimeError):
    """A device is unknown, cannot run the model (memory, missing feature), or failed while running it."""
