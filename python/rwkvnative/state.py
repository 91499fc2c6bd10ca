"""The recurrent state of one sequence: copied, saved, loaded, and taken apart into numpy arrays.

File format: safetensors with the float32 tensors ``att_shift`` [L, C], ``ffn_shift`` [L, C] and ``wkv`` [L, H, N, N], and in
its metadata the fingerprint of the model, so that another model's state is refused rather than misread.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .errors import FileError, InputError
from .files import NewFile, check_path, printable

if TYPE_CHECKING:
    from . import _core

__all__ = ["LayerState", "State", "StateShape"]

_FORMAT = "rwkvnative-state"
_VERSION = "1"
_PARTS = ("att_shift", "ffn_shift", "wkv")
_FINGERPRINT = re.compile("[0-9a-f]{64}")

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StateShape:
    """Sizes of a state: L layers, width C = H heads x N."""

    n_layer: int
    n_embd: int
    n_head: int
    head_size: int

    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Shape of each part over all layers."""
        shift = (self.n_layer, self.n_embd)
        return {"att_shift": shift, "ffn_shift": shift, "wkv": (self.n_layer, self.n_head, self.head_size, self.head_size)}


class LayerState(NamedTuple):
    """One layer's share of a state, float32, in the symbols of the RWKV-7 paper."""

    att_shift: Array
    """[C]: the previous token's normed input of the time mix."""
    ffn_shift: Array
    """[C]: the previous token's normed input of the channel mix."""
    wkv: Array
    """[H, N, N]: the matrix S of each head, S[value index, key index]."""


class StateOwner(Protocol):
    """What a State needs of its model."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def state_shape(self) -> StateShape: ...
    @property
    def name(self) -> str: ...
    def _new_core_state(self) -> _core.State: ...


class State:
    """What a model remembers of the tokens that it has read; its size does not depend on their number.

    Comes from `Model.forward`, `Model.new_state`, `Generation.state` or `State.load`, and goes into any call that takes
    ``state=``, which never changes it. Sequences fork by using one state twice.
    """

    __slots__ = ("_arrays", "_device_state", "_fingerprint", "_model_name", "_owner")

    # On a device (_device_state, _owner), or read from a file and not yet used (the other three). Which of them may change while
    # another thread uses the state: `_arrays` goes last, so what it is decides, and is asked once.
    _device_state: _core.State | None
    _owner: StateOwner | None
    _arrays: dict[str, Array] | None
    _fingerprint: str | None
    _model_name: str | None

    def __init__(self) -> None:
        raise InputError("[state] a State is made by Model.new_state(), Model.forward(), State.load() or State.from_numpy()")

    # ---- making ----

    @classmethod
    def _on_device(cls, core: _core.State, owner: StateOwner) -> State:
        self = cls.__new__(cls)
        self._device_state, self._owner, self._arrays = core, owner, None
        self._fingerprint, self._model_name = None, None
        return self

    @classmethod
    def _on_host(cls, arrays: dict[str, Array], fingerprint: str, model_name: str) -> State:
        self = cls.__new__(cls)
        self._device_state, self._owner, self._arrays = None, None, arrays
        self._fingerprint, self._model_name = fingerprint, model_name
        return self

    # ---- facts ----

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the model that this state belongs to."""
        owner = self._owner
        if owner is not None:
            return owner.fingerprint
        assert self._fingerprint is not None
        return self._fingerprint

    @property
    def shape(self) -> StateShape:
        """Number of layers, width, heads, head size."""
        arrays = self._arrays
        if arrays is None:
            assert self._owner is not None
            return self._owner.state_shape
        n_layer, n_head, head_size, _ = arrays["wkv"].shape
        return StateShape(n_layer, n_head * head_size, n_head, head_size)

    @property
    def nbytes(self) -> int:
        """Bytes of float32 that the state holds."""
        return 4 * sum(int(np.prod(shape)) for shape in self.shape.arrays().values())

    def __repr__(self) -> str:
        s = self.shape
        return f"<State of {self._name()!r}: {s.n_layer} layers x {s.n_embd}, {self.nbytes / 1e6:.2f} MB>"

    def _name(self) -> str:
        return self._owner.name if self._owner is not None else str(self._model_name)

    # ---- copies ----

    def copy(self) -> State:
        """An independent copy."""
        arrays = self._arrays
        if arrays is None:
            assert self._device_state is not None and self._owner is not None
            return State._on_device(self._device_state.copy(), self._owner)
        return State._on_host({k: v.copy() for k, v in arrays.items()}, self.fingerprint, self._name())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with its numbers, as `save` writes them."""
        return State._on_host, (self._read(), self.fingerprint, self._name())

    def __copy__(self) -> State:
        return self.copy()

    def __deepcopy__(self, memo: Mapping[int, Any]) -> State:
        return self.copy()

    # ---- numpy ----

    def _read(self) -> dict[str, Array]:
        arrays = self._arrays
        if arrays is not None:
            return arrays
        assert self._device_state is not None
        return {k: np.asarray(v, dtype=np.float32) for k, v in self._device_state.read().items()}

    def numpy(self) -> list[LayerState]:
        """A copy of the numbers, layer by layer (see `LayerState` for shapes)."""
        arrays = self._read()
        return [LayerState(*(arrays[part][i].copy() for part in _PARTS)) for i in range(self.shape.n_layer)]

    @classmethod
    def from_numpy(cls, layers: Sequence[LayerState | Sequence[npt.ArrayLike]], model: StateOwner) -> State:
        """The inverse of `numpy()`: one (att_shift [C], ffn_shift [C], wkv [H, N, N]) per layer of `model`.

        Raises InputError for a wrong count or shape, or a number that is not finite in float32.
        """
        shape = _owner(model).state_shape
        if not isinstance(layers, Sequence) or len(layers) != shape.n_layer:
            got = str(len(layers)) if isinstance(layers, Sequence) else type(layers).__name__
            raise InputError(f"[state] from_numpy: expected {shape.n_layer} layers for {model.name!r}, got {got}")
        arrays = {part: np.empty(dims, np.float32) for part, dims in shape.arrays().items()}
        for i, layer in enumerate(layers):
            if not isinstance(layer, Sequence) or len(layer) != len(_PARTS):
                got = f"{len(layer)} arrays" if isinstance(layer, Sequence) else type(layer).__name__
                raise InputError(f"[state] from_numpy: layer {i}: expected {', '.join(_PARTS)}, got {got}")
            for part, values in zip(_PARTS, layer):
                where = f"[state] from_numpy: layer {i}, {part}"
                try:
                    if np.iscomplexobj(values):
                        raise TypeError("complex numbers")
                    with np.errstate(over="ignore"):  # infinity is told of below
                        array = np.asarray(values, dtype=np.float32)
                except (TypeError, ValueError, OverflowError) as error:
                    raise InputError(f"{where}: expected numbers, got {type(values).__name__} ({error})") from None
                expected = arrays[part].shape[1:]
                if array.shape != expected:
                    raise InputError(f"{where}: expected shape {list(expected)}, got {list(array.shape)}")
                if not np.isfinite(array).all():
                    raise InputError(f"{where}: expected finite numbers, got NaN or infinity")
                arrays[part][i] = array
        core = model._new_core_state()
        core.write(arrays)
        return State._on_device(core, model)

    # ---- files ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to `path` as safetensors. An existing file is replaced in one step, so a crash leaves either the
        old or the new file. Raises FileError if it cannot be written, InputError for what is no path."""
        from safetensors.numpy import save

        with NewFile(path, "[state]") as file:
            metadata = {"format": _FORMAT, "version": _VERSION, "model": self.fingerprint, "model_name": self._name()}
            file.write(save({k: np.ascontiguousarray(v) for k, v in self._read().items()}, metadata))

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: StateOwner | None = None) -> State:
        """Read a state that `save` wrote. With `model`, it is checked against it and put on its device now; without, both
        happen when it is first used.

        Raises FileError if the file is missing or not a sound state file, InputError if it belongs to another model.
        """
        arrays, metadata = _read_file(check_path(path, "[state]"))
        state = State._on_host(arrays, metadata["model"], metadata.get("model_name", "a model"))
        if model is not None:
            state._core_for(_owner(model))
        return state

    # ---- use by Model ----

    def _core_for(self, model: StateOwner) -> _core.State:
        """The state on `model`'s device. The same weights may be open twice (two devices, say): then it is carried over."""
        if self._owner is model and self._device_state is not None:
            return self._device_state
        if self.fingerprint != model.fingerprint:
            raise InputError(
                f"[state] this state is of another model: expected one of {model.name!r} (fingerprint "
                f"{model.fingerprint[:12]}), got one of {self._name()!r} (fingerprint {self.fingerprint[:12]})"
            )
        core = model._new_core_state()
        core.write(self._read())
        if self._owner is None:  # loaded from a file: from now on it lives with this model
            self._device_state, self._owner, self._arrays = core, model, None
        return core


def _owner(model: Any) -> StateOwner:
    if not hasattr(model, "_new_core_state"):
        raise InputError(f"[state] model: expected a Model, got {type(model).__name__}")
    owner: StateOwner = model
    return owner


def _read_file(path: str) -> tuple[dict[str, Array], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    where = f"[state] {printable(path)}"
    try:
        mode = os.stat(path).st_mode  # before it is opened: opening a pipe would wait for a writer
        if not stat.S_ISREG(mode):
            raise FileError(f"{where}: expected a state file, got {'a directory' if stat.S_ISDIR(mode) else 'a device, pipe or socket'}")
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] = dict(file.metadata() or {})
            if metadata.get("format") != _FORMAT:
                raise FileError(f"{where}: a safetensors file, but not a state saved by rwkvnative (no format={_FORMAT!r})")
            if metadata.get("version") != _VERSION:
                raise FileError(f"{where}: expected state format version {_VERSION}, got {metadata.get('version')!r}")
            if not _FINGERPRINT.fullmatch(metadata.get("model", "")):
                raise FileError(f"{where}: expected a model's fingerprint of 64 hexadecimal digits, got {metadata.get('model', '')[:64]!r}")
            missing = set(_PARTS) - set(file.keys())
            if missing:
                raise FileError(f"{where}: tensor {min(missing)!r} is missing")
            for part in _PARTS:  # before they are read: numpy has no name for some types
                info = file.get_slice(part)
                if info.get_dtype() != "F32":
                    raise FileError(f"{where}: tensor {part!r}: expected float32, got {info.get_dtype()} {info.get_shape()}")
            arrays = {part: file.get_tensor(part) for part in _PARTS}
    except FileNotFoundError:
        raise FileError(f"{where}: no such file") from None
    except SafetensorError as error:
        raise FileError(f"{where}: not a state file, or a damaged one ({error})") from None
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{where}: cannot read: {error.strerror or error}") from None
    wkv = arrays["wkv"]
    if wkv.ndim != 4:
        raise FileError(f"{where}: tensor 'wkv': expected 4 dimensions, got {wkv.ndim}")
    n_layer, n_head, _, head_size = wkv.shape
    for part, expected in StateShape(n_layer, n_head * head_size, n_head, head_size).arrays().items():
        array = arrays[part]
        if array.shape != expected:
            raise FileError(f"{where}: tensor {part!r}: expected float32 {list(expected)}, got {list(array.shape)}")
        if not np.isfinite(array).all():
            raise FileError(f"{where}: tensor {part!r}: expected finite numbers, got NaN or infinity")
    return arrays, metadata
