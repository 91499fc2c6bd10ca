"""Opens rwkvnative._core.Engine on synthetic models, and compares what it computes with the oracle."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import numpy as np
import oracle
from rwkvnative import _core
from synthetic import SyntheticModel, build_model

# The devices under test, comma-separated ids as `rwkvnative devices` prints them.
DEVICES = os.environ.get("RWKVNATIVE_TEST_DEVICES", "cpu").split(",")


def devices_under_test(every_kernel_set: bool) -> list[str]:
    """every_kernel_set: the CPU counts as several devices, one for each kernel set that this processor runs."""
    kernel_sets = [f"cpu:{name}" for name in _core.cpu_kernels()] if every_kernel_set else ["cpu"]
    return [d for device in DEVICES for d in (kernel_sets if device == "cpu" else [device])]


def f32_bound(device: str) -> float:
    """How far a row of logits or a state may be from the float64 oracle, relative, with float32 numerics.

    One rounding is 6e-8. Sums over up to 1024 terms, two or three layers and a recurrence of up to 300 steps bring that to
    1e-6, and to 5e-6 in rows where group norm amplifies a head whose output is near zero; seen on four CPU kernel sets.
    A wrong term of the formulas is per cents. GPUs may use fast approximations of exp and division, and f16 products.
    """
    return 2e-5 if device.startswith("cpu") else 2e-3


def config(model: SyntheticModel) -> dict[str, int | float]:
    """The hyper-parameters as rwkvnative.model_config gives them to the Engine."""
    s = model.shape
    decay, iclr, value, gate = s.ranks
    return {"n_layer": s.n_layer, "n_embd": s.n_embd, "n_ff": s.n_ff, "head_size": s.head_size, "n_vocab": s.n_vocab,
            "context_length": s.context_length, "layer_norm_epsilon": float(np.float32(s.norm_eps)), "decay_rank": decay,
            "iclr_rank": iclr, "value_rank": value, "gate_rank": gate, "token_shift_count": 2}


def open_engine(model: SyntheticModel, device: str = "cpu", *, numerics: str = "f32", n_threads: int = 2) -> _core.Engine:
    entries, data = model.packed()
    return _core.Engine("rwkv7", config(model), entries, data, device, n_threads, numerics, None)


@dataclass(frozen=True)
class Case:
    """A model, tokens, and what the oracle makes of them (when first asked)."""

    model: SyntheticModel
    tokens: np.ndarray

    @functools.cached_property
    def _expected(self) -> tuple[np.ndarray, oracle.State]:
        return oracle.Oracle.from_model(self.model).forward(self.tokens)

    @property
    def logits(self) -> np.ndarray:
        return self._expected[0]

    @property
    def state(self) -> oracle.State:
        return self._expected[1]

    @functools.cached_property
    def emulated(self) -> np.ndarray:
        """Logits of the oracle with int8 activations."""
        return oracle.Oracle.from_model(self.model, int8_activations=True).forward(self.tokens)[0]


@functools.cache
def _model(options: tuple[tuple[str, object], ...]) -> SyntheticModel:
    return build_model(**{key: dict(value) if key == "types" else value for key, value in options})


@functools.cache
def _case(n_tokens: int, token_seed: int, options: tuple[tuple[str, object], ...]) -> Case:
    model = _model(options)
    return Case(model, random_tokens(n_tokens, model.shape.n_vocab, token_seed))


def case(n_tokens: int, token_seed: int = 0, **options: object) -> Case:
    """`build_model(**options)` on n_tokens random tokens; remembered, for the next device asks for the same."""
    return _case(n_tokens, token_seed, tuple((k, tuple(v.items()) if k == "types" else v) for k, v in options.items()))


def tokens_of(values) -> np.ndarray:
    return np.asarray(values, dtype=np.int32)


def random_tokens(n: int, n_vocab: int = 300, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, n_vocab, n, dtype=np.int32)


def run(engine: _core.Engine, tokens, state: oracle.State | None = None) -> tuple[np.ndarray, oracle.State]:
    """Logits [T, V] of all tokens and the state after them, from `state` (arrays) or zeros: the oracle's interface."""
    current = engine.new_state()
    if state is not None:
        current.write({name: values.astype(np.float32) for name, values in state.items()})
    logits = engine.forward(tokens_of(tokens), current, current, "all")
    return logits, current.read()


def row_errors(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """L2 error of each row over the root mean square length of the expected rows (so that a row of near zero is no matter)."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    length = np.sqrt((expected**2).sum(-1).mean())
    return np.linalg.norm(got - expected, axis=-1) / length


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest expected magnitude."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def assert_states_close(got: oracle.State, expected: oracle.State, bound: float) -> None:
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        assert relative_error(got[name], values) <= bound, name


def assert_same(got: oracle.State, expected: oracle.State) -> None:
    """The same numbers, bit for bit."""
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(got[name], values), name
