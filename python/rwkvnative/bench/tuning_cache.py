"""Where the tuner's choices are kept: one small JSON file for each model shape and device, under the user's cache directory.

An entry is used only for the same device, driver, backend and kernels. Anything else that is found there (an entry for older
kernels, a damaged file) is ignored with one warning and replaced by the next `tune`.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import _core
from ..errors import DeviceError, FileError, InputError, RwkvError
from ..files import NewFile, check_writable

__all__ = ["TuningWarning", "apply_cached", "can_tune", "entry_path", "identity", "load", "prepare", "store"]

_VERSION = 1
_MUST_MATCH = ("driver", "kernels", "version")
_warned: set[Path] = set()


class TuningWarning(UserWarning):
    """A tuned choice, or a stored one, is not used."""


def identity(
    engine: _core.Engine, config: dict[str, int | float], tensors: Iterable[tuple[str, int, tuple[int, ...], int, int]], numerics: str
) -> dict[str, Any]:
    """What an entry is for: the device, and the shapes and types of the model's tensors (not their values)."""
    info = engine.info
    shapes = hashlib.sha256(repr((sorted(config.items()), [(name, kind, tuple(ne)) for name, kind, ne, _, _ in tensors])).encode())
    return {
        "version": _VERSION, "backend": info["backend"], "device": info["device_name"], "driver": info["driver"],
        "kernels": engine.kernels_id, "model": shapes.hexdigest(), "numerics": numerics,
    }  # fmt: skip


def entry_path(key: dict[str, Any]) -> Path:
    """The file of an entry. Driver and kernels are not in its name: a newer entry replaces the one of older kernels."""
    import platformdirs

    named = {name: value for name, value in key.items() if name not in _MUST_MATCH}
    digest = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
    return Path(platformdirs.user_cache_dir("rwkvnative", appauthor=False)) / "tuning" / f"{digest[:24]}.json"


def load(key: dict[str, Any]) -> str | None:
    """The stored text for ``_core.Engine.set_tuning``, or None. A stale or damaged entry is warned of once in a process."""
    path = entry_path(key)
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        text, found = entry["tuning"], entry["key"]
        if not isinstance(text, str) or not isinstance(found, dict):
            raise TypeError("expected a text and a key")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _warn(path, f"the tuning stored in {path} is damaged ({error}) and ignored; `rwkvnative tune` replaces it")
        return None
    if found != key:
        changed = ", ".join(sorted(name for name in key if found.get(name) != key[name])) or "key"
        _warn(path, f"the tuning stored in {path} is for another {changed} and ignored; `rwkvnative tune` makes a new one")
        return None
    return text


def prepare(key: dict[str, Any]) -> Path:
    """The file of an entry, in a folder that is there; FileError if it cannot be written, which is better known before tuning."""
    path = entry_path(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"[tune] {path.parent}: cannot make this folder: {error.strerror or error}") from None
    check_writable(path, "[tune]")
    return path


def store(key: dict[str, Any], text: str, measured: dict[str, Any]) -> Path:
    """Write an entry, all of it or nothing. `measured` is kept beside it for people. FileError if it cannot be written."""
    path = prepare(key)
    document = json.dumps({"key": key, "tuning": text, "measured": measured}, indent=1)
    with NewFile(path, "[tune]") as file:
        file.write(document.encode())
    _warned.discard(path)
    return path


def can_tune(engine: _core.Engine) -> bool:
    """Whether there is anything to choose for this model on its device."""
    return bool(engine.tuning_variants() or engine.prefill_choices())


def apply_cached(engine: _core.Engine, key: dict[str, Any]) -> str:
    """Set what is stored for this model and device, if anything; returns the text, "" for the defaults. Constants in the
    environment go before it. A chunk length that there is no room for, now, is left out with a warning."""
    if os.environ.get(f"RWKVNATIVE_{engine.info['backend'].upper()}_TUNING") or not can_tune(engine):
        return ""
    text = load(key)
    if not text:
        return ""
    where, without_chunk = entry_path(key), ";".join(part for part in text.split(";") if not part.startswith("prefill_rows="))
    try:
        engine.set_tuning(text)
        return text
    except DeviceError as error:
        if without_chunk != text:
            _warn(where, f"the chunk length stored in {where} cannot be used and is ignored: {error}")
            engine.set_tuning(without_chunk)
            return without_chunk
        problem: RwkvError = error
    except InputError as error:
        problem = error
    _warn(where, f"the tuning stored in {where} cannot be used and is ignored: {problem}")
    return ""


def _warn(path: Path, message: str) -> None:
    if path not in _warned:
        _warned.add(path)
        warnings.warn(message, TuningWarning, stacklevel=4)
