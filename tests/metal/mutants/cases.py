"""What a mutant is run on: small models, and what is compared with the CPU's numbers.

Imported where the package under test is first on sys.path (worker.py), with or without a bug in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import numpy as np
from emulated.soft import SoftDevice
from engines import config, open_engine, random_tokens, row_errors, tokens_of
from synthetic import build_model

from rwkvnative import _core
from rwkvnative.errors import InputError

BOUND = 2e-5  # emulated/ops.py
BOUNDS = {"half": 2e-3}  # of a case with another one
Run = Callable[[str], list[np.ndarray]]  # of a device: arrays to compare

SMALL = dict(n_embd=256, n_layer=2, n_ff=256, n_vocab=40, type="Q4_K", head_type="Q6_K", lora_type="F16", ranks=(16, 16, 16, 32), seed=22)
ODD = dict(n_embd=48, head_size=16, ranks=(7, 5, 3, 11), n_ff=100, n_vocab=37, n_layer=2)
CHOICE = dict(n_embd=32, head_size=32, n_vocab=2500, n_layer=1, n_ff=64)


def _decode(device: str, options: dict[str, object], n: int = 3, numerics: str = "f32") -> list[np.ndarray]:
    engine = open_engine(build_model(**options), device, numerics=numerics)
    state = engine.new_state()
    out = [engine.forward(tokens_of([t]), state, state, "last") for t in range(1, n + 1)]
    return [np.stack(out)]


def _five(device: str) -> list[np.ndarray]:
    """Five stages a layer, with more rows than a pass takes."""
    os.environ["RWKVNATIVE_METAL_TUNING"] = "fuse=2,mix_simdgroups=2,mix_passes=3"
    return _decode(device, SMALL) + _decode(device, ODD)


def _half(device: str) -> list[np.ndarray]:
    """Mixes as halves, of both kernels that read them."""
    out = []
    for fuse in (1, 2):
        os.environ["RWKVNATIVE_METAL_TUNING"] = f"half=1,fuse={fuse}"
        out += _decode(device, SMALL, numerics="f32" if device == "cpu" else "auto")
    return out


def _prefill(device: str, options: dict[str, object], n: int) -> list[np.ndarray]:
    engine = open_engine(build_model(**options), device)
    state = engine.new_state()
    tokens = random_tokens(n, 37)
    first = engine.forward(tokens, None, state, "all")
    return [first, engine.forward(tokens[:1], state, state, "last")[None], engine.forward(tokens[:3], state, state, "last")[None]]


def _batch(device: str) -> list[np.ndarray]:
    engine = open_engine(build_model(**SMALL), device)
    states = [engine.new_state() for _ in range(3)]
    parts = [random_tokens(n, 37, seed=n) for n in (3, 1, 4)]
    first = engine.forward_batch(parts, [None] * 3, states, "last")
    return [first, engine.forward_batch([tokens_of([5])] * 3, states, states, "last")]


def _choice(device: str) -> list[np.ndarray]:
    engine = open_engine(build_model(**CHOICE), device)
    ids, values = tokens_of([5, 700, 13, 700]), np.array([9, 8, 3, 7], np.float32)
    got, logits, total = engine.candidates(tokens_of([1, 2]), None, engine.new_state(), 40, ids, values)
    plain = engine.candidates(tokens_of([1, 2]), None, engine.new_state(), 40, tokens_of([]), np.array([], np.float32))[2]
    greedy = engine.greedy(3, engine.new_state(), 4, [])
    return [np.asarray(got, np.float32)[None], logits[None], np.array([[total]]), np.array([[plain]]), np.array([greedy], np.float32)]


def _states(device: str) -> list[np.ndarray]:
    """States that were used before, copies, what the host reads and writes."""
    engine = open_engine(build_model(**(SMALL | {"n_layer": 1})), device)

    def arrays(state: _core.State) -> list[np.ndarray]:
        return [v.reshape(1, -1) for v in state.read().values()]

    first, second = engine.new_state(), engine.new_state()
    engine.forward(tokens_of([1, 2]), None, first, "none")
    engine.forward(tokens_of([3]), None, second, "none")
    copied = second.copy()
    out = [np.concatenate(arrays(copied), axis=1), np.concatenate(arrays(first), axis=1)]
    out.append(engine.forward(tokens_of([4]), None, second, "last")[None])  # from the beginning, into a used state
    del first
    fresh = engine.new_state()  # where the deleted one was
    out.append(engine.forward(tokens_of([4]), fresh, fresh, "last")[None])
    fresh.write(copied.read())
    out.append(engine.forward(tokens_of([6]), fresh, fresh, "last")[None])
    return out


def _streaming(device: str) -> list[np.ndarray]:
    """A prompt and tokens with every unit passing through two slots: layers read in place and packed, a head in pieces."""
    options = SMALL | {"n_layer": 3, "n_vocab": 2500, "types": {"blk.*.channel_mix_[kv]*[ye].weight": "Q6_K"}}
    model = build_model(**options)
    entries, data = model.packed()

    def engine(budget: int) -> _core.Engine:
        return _core.Engine("rwkv7", config(model), entries, data, device, 2, "f32", None, max_device_memory=budget)

    if device == "cpu":
        opened = engine(0)
    else:
        try:
            engine(1)
        except InputError as error:
            opened = engine(int(re.search(r"at least (\d+)", str(error))[1]))
    state = opened.new_state()
    first = opened.forward(random_tokens(5, 37), None, state, "all")
    return [first, *(opened.forward(tokens_of([t]), state, state, "last")[None] for t in (1, 2))]


CASES: dict[str, Run] = {
    "decode": lambda device: _decode(device, SMALL),
    "odd": lambda device: _prefill(device, ODD, 5) + _decode(device, ODD),
    "five": _five,
    "half": _half,
    "prefill": lambda device: _prefill(device, SMALL, 5),
    "matmul": lambda device: _prefill(device, SMALL | {"n_layer": 1}, 19),
    "batch": _batch,
    "choice": _choice,
    "states": _states,
    "streaming": _streaming,
}


def case(name: str) -> Run:
    if name.startswith("type:"):
        type_ = name.split(":")[1]
        return lambda device: _decode(device, dict(n_embd=256, n_layer=1, n_ff=256, n_vocab=40, type=type_, seed=3), 2)
    return CASES[name]


def notice(soft: SoftDevice, name: str, expected: list[np.ndarray]) -> str:
    """What is wrong; empty if nothing is noticed."""
    try:
        if name == "fault":
            engine = open_engine(build_model(**ODD), "metal")
            soft.fail_command_buffer(2, 2)  # the first clears the state
            try:
                state = engine.new_state()
                engine.forward(tokens_of([1]), None, state, "last")
            except Exception:
                return ""
            return "an injected error was not reported"
        got = case(name)("metal")
        for a, b in zip(got, expected):
            error = row_errors(a, b).max()
            if not error <= BOUNDS.get(name, BOUND):
                return f"off by {error:.2g}"
        alive = soft.alive()
        return f"alive: {alive}" if alive else ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
