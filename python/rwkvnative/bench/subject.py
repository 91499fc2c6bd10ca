"""What is measured: a model from a file or a random one, opened on a device."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import _core
from ..files import check_path, printable
from ..gguf_file import GgufFile
from ..model_config import rwkv_config
from ..sizes import max_device_memory as parse_max_device_memory
from .random_model import random_model
from .tuning_cache import apply_cached, identity

__all__ = ["Subject", "Work", "file_subject", "least_work", "random_subject"]

Progress = Callable[[int, int], object]
_TABLE = "token_embd.weight"
# The converter gives layer 0 a value residual LoRA that nothing reads.
_UNUSED = tuple(f"blk.0.time_mix_v{i}.weight" for i in "012")


@dataclass(frozen=True)
class Work:
    """The least that one step of `rows` tokens moves and computes: weights once, a row of the embedding table each, the state of
    each sequence read and written; two operations for each weight and row, nine for each value of the state."""

    n_bytes: int
    n_operations: int


def least_work(
    tensors: Iterable[tuple[str, tuple[int, ...], int]], state_values: int, state_bytes: int, rows: int, sequences: int
) -> Work:
    """tensors: (name, shape with ne0 first, bytes). state_values: of the matrix-valued states; state_bytes: of a sequence's whole state."""
    n_bytes = n_weights = 0
    for name, ne, n in tensors:
        if name == _TABLE:
            n_bytes += rows * n // ne[1]
        elif name not in _UNUSED:
            n_bytes += n
            # The head works on the last row of each sequence only.
            n_weights += math.prod(ne) * (sequences if name == "output.weight" else rows)
    return Work(n_bytes + 2 * sequences * state_bytes, 2 * n_weights + 9 * state_values * rows)


@dataclass
class Subject:
    """An opened model. `types` names its tensor types; `path` is None for a random model."""

    name: str
    types: str
    path: Path | None
    engine: _core.Engine
    tensors: list[tuple[str, int, tuple[int, ...], int, int]]
    identity: dict[str, Any]
    """Of its tuning: see `tuning_cache`."""
    tuning: str = ""
    """What the engine was tuned with when it was opened."""
    write: Callable[[str | os.PathLike[str]], None] | None = None
    """Writes a random model as a file."""
    _file: GgufFile | None = None

    @property
    def n_parameters(self) -> int:
        return sum(math.prod(ne) for _, _, ne, _, _ in self.tensors)

    @property
    def n_bytes(self) -> int:
        """Of all tensors, as in the file."""
        return sum(n for *_, n in self.tensors)

    def work(self, rows: int, sequences: int) -> Work:
        info = self.engine.info
        state = info["n_layer"] * info["n_embd"] * info["head_size"]
        return least_work(((name, ne, n) for name, _, ne, _, n in self.tensors), state, info["state_bytes"], rows, sequences)

    def close(self) -> None:
        del self.engine
        if self._file is not None:
            self._file.close()


def file_subject(
    path: str | os.PathLike[str],
    device: str,
    n_threads: int | None,
    numerics: str,
    progress: Progress | None = None,
    max_device_memory: str | None = None,
) -> Subject:
    """A GGUF file on a device. Raises FileError and DeviceError as `Model` does; the vocabulary is not needed."""
    file = GgufFile(check_path(path, "[model] path"))
    try:
        arch, config = rwkv_config(file)
        file.check_tensor_types(t["ggml_type"] for t in _core.dtypes())
        tensors = [(t.name, t.ggml_type, t.shape_ne, t.offset, t.n_bytes) for t in file.tensors.values()]
        engine = _core.Engine(
            arch, config, tensors, file.data, device, n_threads or 0, numerics, progress, source=printable(os.fspath(file.path)),
            max_device_memory=parse_max_device_memory(max_device_memory), file=os.fsencode(file.path),
        )  # fmt: skip
    except BaseException:
        file.close()
        raise
    name = file.metadata.get("general.name")
    types = _types((t.type_name, t.n_bytes) for t in file.tensors.values())
    base = Path(path).name
    label = printable(f"{name} ({base})" if isinstance(name, str) and name else base)
    key = identity(engine, config, tensors, numerics)
    return Subject(label, types, Path(path), engine, tensors, key, apply_cached(engine, key), _file=file)


def random_subject(
    spec: str,
    device: str,
    n_threads: int | None,
    numerics: str,
    progress: Progress | None = None,
    max_device_memory: str | None = None,
) -> Subject:
    """A random model on a device: see `random_model`."""
    model = random_model(spec)
    engine = _core.Engine(
        "rwkv7", model.config, model.tensors, model.data, device, n_threads or 0, numerics, progress, source=model.name,
        max_device_memory=parse_max_device_memory(max_device_memory),
    )  # fmt: skip
    key = identity(engine, model.config, model.tensors, numerics)
    tuning = apply_cached(engine, key)
    return Subject(model.name, model.file_type.upper(), None, engine, model.tensors, key, tuning, write=model.write)


def _types(pairs: Iterable[tuple[str, int]]) -> str:
    """The tensor types that hold most of the bytes: ``Q4_K Q6_K``."""
    totals: dict[str, int] = {}
    for name, n_bytes in pairs:
        totals[name] = totals.get(name, 0) + n_bytes
    total = sum(totals.values())
    return " ".join(name for name, n in sorted(totals.items(), key=lambda item: -item[1]) if n >= 0.1 * total)


def device_facts(engine: _core.Engine) -> dict[str, Any]:
    """What makes two measurements comparable: device, name, backend, features, n_threads."""
    info = engine.info
    return {key: info[key] for key in ("device", "device_name", "backend", "kind", "features", "n_threads")}
