"""Whether a device computes what the CPU's reference kernels compute: every kind of op on small random models, in under a minute.

`run("metal")` yields a `Check` for each thing tried. Models are so small that all kernels of a backend come up: one token (mat-vec),
a few, and a prompt (mat-mat) for every weight type in every role; batches, top-k, greedy decoding, states, and head sizes on top.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from . import _core
from .bench.random_model import RandomModel, Size, TensorTypes, small_random_model
from .errors import RwkvError

__all__ = ["BOUND_AUTO", "BOUND_F32", "Check", "describe", "run"]

# Largest error of a row of logits, over the root mean square length of a row. With float32 numerics both sides differ in rounding
# (1e-6) and in how exp and division are approximated; a wrong term of the formulas is per cents.
BOUND_F32 = 2e-3
# The median row, where a backend may round activations to int8 (half a step of 127 in every matrix's input: 0.5 to 1.6 %) or weights
# to halves.
BOUND_AUTO = 3e-2

_SEED = 7
_MIXED = TensorTypes("Q4_K", "Q4_K", "Q6_K", "F16", "F32")  # as in a Q4_K_M file
_REFERENCE = "cpu:reference"

_Tokens = npt.NDArray[np.int32]
_Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Check:
    """One line of the verdict. `error` is None where nothing was measured because the device failed: `problem` says how."""

    name: str
    error: float | None
    bound: float
    seconds: float
    problem: str = ""

    @property
    def ok(self) -> bool:
        """False for NaN too."""
        return self.error is not None and self.error <= self.bound


def describe(device: str) -> _core.EngineInfo:
    """What `device` (a name from ``rwkvnative devices`` or "auto") is. Raises InputError or DeviceError if it cannot be opened."""
    return _Pair(_small_heads(16), device, "f32").device.info


def run(device: str, only: str = "") -> Iterator[Check]:
    """Tries `device`, a name from ``rwkvnative devices``, check by check; only those whose name holds the text `only`.

    A device that fails in a check is a result, not an exception.
    """
    for name, bound, measure in _checks(device):
        if only not in name:
            continue
        start = time.perf_counter()
        error: float | None = None
        problem = ""
        try:
            error = float(measure())
        except RwkvError as failure:
            problem = str(failure)
        yield Check(name, error, bound, time.perf_counter() - start, problem)


def _checks(device: str) -> Iterator[tuple[str, float, Callable[[], float]]]:
    for dtype in _core.dtypes():
        name = dtype["name"]
        yield f"{name}, float32", BOUND_F32, partial(_of_type, name, device, "f32")
        if dtype["block_values"] > 1:
            yield f"{name}, as the device likes it", BOUND_AUTO, partial(_of_type, name, device, "auto")
    for head_size in (16, 32, 128):
        yield f"heads of {head_size}", BOUND_F32, partial(_of_head_size, head_size, device)
    yield "a large vocabulary", BOUND_F32, partial(_of_large_vocabulary, device)
    mixed = _model(_MIXED)
    yield "normalized hidden state", BOUND_F32, partial(_hidden, mixed, device)
    yield "several sequences at once", BOUND_F32, partial(_batch, mixed, device)
    yield "sorted candidates", 1e-4, partial(_candidates, mixed, device)
    yield "greedy decoding", 0.0, partial(_greedy, mixed, device)
    yield "states", 0.0, partial(_states, mixed, device)


# ---- models


def _model(types: TensorTypes, size: Size | None = None) -> RandomModel:
    # More tokens than one slice of a device's top-k, and no multiple of any tile.
    return small_random_model(size or Size(2, 256, (256, 256, 256, 256), n_vocab=1100), types, _SEED)


def _small_heads(head_size: int) -> RandomModel:
    # LoRAs whose rows end within a block of every size.
    size = Size(2, 2 * head_size, (12, 20, 7, 33), n_vocab=300, head_size=head_size)
    return _model(TensorTypes("Q8_0", "Q8_0", "Q8_0", "F16", "F32"), size)


class _Pair:
    """The same model on the device and on the CPU's reference kernels, which always use float32 activations."""

    def __init__(self, model: RandomModel, device: str, numerics: str) -> None:
        self.size = model.size
        self.device = _core.Engine("rwkv7", model.config, model.tensors, model.data, device, 0, numerics)
        self.reference = _core.Engine("rwkv7", model.config, model.tensors, model.data, _REFERENCE, 0, "f32")

    def tokens(self, n: int, seed: int = 0) -> _Tokens:
        return np.random.default_rng(seed).integers(0, self.size.n_vocab, n, dtype=np.int32)


def _row_errors(got: _Logits, expected: _Logits) -> npt.NDArray[np.float64]:
    length = np.sqrt((expected.astype(np.float64) ** 2).sum(-1).mean())
    errors: npt.NDArray[np.float64] = np.linalg.norm(got.astype(np.float64) - expected, axis=-1) / length
    return errors


def _state_error(got: dict[str, npt.NDArray[np.float32]], expected: dict[str, npt.NDArray[np.float32]]) -> float:
    return max(float(np.abs(got[part] - expected[part]).max() / np.abs(expected[part]).max()) for part in expected)


# ---- what is compared


def _of_type(name: str, device: str, numerics: str) -> float:
    return _every_shape(_Pair(_model(TensorTypes(name, name, name, name, name)), device, numerics), numerics)


def _of_head_size(head_size: int, device: str) -> float:
    return _every_shape(_Pair(_small_heads(head_size), device, "f32"), "f32")


def _of_large_vocabulary(device: str) -> float:
    """So many rows of one matrix that a device may share its threads out differently."""
    return _every_shape(_Pair(_model(_MIXED, Size(1, 256, (32, 32, 32, 32), n_vocab=16500)), device, "f32"), "f32")


def _every_shape(pair: _Pair, numerics: str) -> float:
    """One token a call, three, and a prompt; then the state."""
    tokens = pair.tokens(48)
    runs = []
    for engine in (pair.device, pair.reference):
        state = engine.new_state()
        single = [engine.forward(tokens[i : i + 1], state, state, "last") for i in range(5)]
        few = engine.forward(tokens[5:8], state, state, "all")
        many = engine.forward(tokens[8:], state, state, "all")
        runs.append((np.concatenate([np.stack(single), few, many]), state.read()))
    (logits, state_after), (expected, expected_state) = runs
    errors = _row_errors(logits, expected)
    if numerics == "f32":
        return max(float(errors.max()), _state_error(state_after, expected_state))
    return float(max(np.median(errors[:5]), np.median(errors[5:8]), np.median(errors[8:])))


def _hidden(model: RandomModel, device: str) -> float:
    pair = _Pair(model, device, "f32")
    tokens = pair.tokens(20)
    got, expected = (engine.hidden(tokens, None, engine.new_state()) for engine in (pair.device, pair.reference))
    return float(_row_errors(got[None], expected[None]).max())


def _batch(model: RandomModel, device: str) -> float:
    """Sequences of different lengths in one call, then one token each."""
    pair = _Pair(model, device, "f32")
    prompts = [pair.tokens(n, seed=n) for n in (1, 17, 4, 40, 9)]
    runs = []
    for engine in (pair.device, pair.reference):
        states = [engine.new_state() for _ in prompts]
        first = engine.forward_batch(prompts, [None] * len(prompts), states)
        nexts = [prompt[:1] for prompt in prompts]
        runs.append(np.concatenate([first, engine.forward_batch(nexts, states, states)]))
    return float(_row_errors(runs[0], runs[1]).max())


def _candidates(model: RandomModel, device: str) -> float:
    """Against the device's own logits, sorted here; with some of them raised, lowered and forbidden."""
    pair = _Pair(model, device, "f32")
    engine, token = pair.device, pair.tokens(1)
    bias_ids = np.arange(0, 300, 7, dtype=np.int32)
    bias = np.where(bias_ids % 2 == 0, np.float32(2.5), np.float32(-np.inf)).astype(np.float32)
    logits = engine.forward(token, None, engine.new_state(), "last")
    logits[bias_ids] += bias
    order = np.lexsort((np.arange(len(logits)), -logits))
    largest = float(logits.max())
    log_sum_exp = largest + float(np.log(np.exp(logits.astype(np.float64) - largest).sum()))
    error = 0.0
    for k in (1, 40, 500):
        ids, values, sum_ = engine.candidates(token, None, engine.new_state(), k, bias_ids, bias)
        if not np.array_equal(ids, order[:k]):
            return float("inf")
        error = max(error, float(np.abs(values - logits[ids]).max()), abs(sum_ - log_sum_exp))
    return error


def _greedy(model: RandomModel, device: str) -> float:
    """Tokens that stay on the device, several steps in flight, against one call a token: how many differ."""
    pair = _Pair(model, device, "f32")
    engine = pair.device
    state, token, expected = engine.new_state(), 3, []
    for _ in range(24):
        token = int(engine.forward(np.array([token], np.int32), state, state, "last").argmax())
        expected.append(token)
    tokens = engine.greedy(3, engine.new_state(), 24, np.array([], np.int32))
    same = sum(a == b for a, b in zip(tokens, expected, strict=False))  # fewer tokens: its logits are no numbers
    return float(len(expected) - same)


def _states(model: RandomModel, device: str) -> float:
    """Written, read, copied, and a run repeated from a copy: bit for bit."""
    pair = _Pair(model, device, "f32")
    engine, tokens = pair.device, pair.tokens(12)
    state = engine.new_state()
    engine.forward(tokens[:6], None, state, "none")
    parts = state.read()
    copy, written = state.copy(), engine.new_state()
    written.write(parts)
    ends = []
    for start in (state, copy, written):
        end = engine.new_state()
        engine.forward(tokens[6:], start, end, "none")  # start stays what it is
        ends.append(end.read())
    same = all(np.array_equal(parts[name], s.read()[name]) for name in parts for s in (state, copy, written))
    same = same and all(np.array_equal(ends[0][name], end[name]) for name in parts for end in ends[1:])
    return 0.0 if same else float("inf")
