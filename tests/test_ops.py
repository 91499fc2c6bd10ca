"""Single ops of every weight type on every backend against float64 numpy: inputs are written into activation slots and states, and
what the op leaves there is read back. Whole models, and ops fused with each other, are test_parity*.py's and test_webgpu.py's."""

from __future__ import annotations

import functools

import numpy as np
import oracle
import pytest
import webgpu_devices
from engines import config, tokens_of
from oracle import Oracle, layer_norm, sigmoid
from rwkvnative import _core
from synthetic import ALL_TYPES, FLOAT_TYPES, SyntheticModel, build_model

# L2 error of an output over its length. float32 sums of a few hundred terms are off by 3e-7; lavapipe's and SwiftShader's tanh
# and exp by 1e-5. int8: what is rounded is given, so the codes are the same but for a few that lie between two.
BOUND = {"cpu": 3e-6, "webgpu": 3e-5}
INT8_BOUND = 2e-4

ROWS = ((1,), (3, 2))  # a token of one sequence; two sequences
RANKS = (32, 64, 32, 96)
SHAPE = dict(n_layer=2, n_embd=256, n_ff=512, head_size=64, n_vocab=70, ranks=RANKS)
OPS_PER_LAYER = ("mix6", "project", "wkv7", "output", "mix1", "key", "value")


@functools.cache
def model_of(type_name: str, lora_type: str = "F16") -> tuple[SyntheticModel, Oracle, Oracle]:
    """The model, and the oracle without and with int8 activations."""
    model = build_model(type=type_name, lora_type=lora_type, seed=31, **SHAPE)
    return model, Oracle.from_model(model), Oracle.from_model(model, int8_activations=True)


def index_of(op: str, layer: int) -> int:
    if op == "embed":
        return 0
    return 15 if op == "head" else 1 + 7 * layer + OPS_PER_LAYER.index(op)


class Inputs:
    """Random slots and states, the same for all ops."""

    def __init__(self, widths: dict[str, int], rows: tuple[int, ...]) -> None:
        rng = np.random.default_rng(len(rows))
        n = sum(rows)
        self.rows = rows
        self.tokens = tokens_of(rng.integers(0, SHAPE["n_vocab"], n))
        self.slots = {name: rng.normal(size=(n, width)).astype(np.float32) for name, width in sorted(widths.items())}
        self.slots["ffn_hidden"] **= 2
        self.states = rng.normal(size=(len(rows), 2 * (2 * 256 + 4 * 64 * 64))).astype(np.float32)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.slots[name].astype(np.float64)

    def part(self, states: np.ndarray, sequence: int, layer: int, name: str) -> np.ndarray:
        """A view of a part of a state."""
        own = states[sequence].reshape(2, -1)[layer]
        at = {"att_shift": slice(0, 256), "ffn_shift": slice(256, 512), "wkv": slice(512, None)}[name]
        return own[at].reshape(4, 64, 64) if name == "wkv" else own[at]


def expected_of(op: str, layer: int, o: Oracle, inputs: Inputs) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the op writes: slots, and all states."""
    states = inputs.states.astype(np.float64)
    block = f"blk.{layer}."
    bounds = np.cumsum([0, *inputs.rows])

    def vector(name: str) -> np.ndarray:
        return o.weights[block + name + ".weight"]

    def matrix(name: str, slot: str) -> np.ndarray:
        return o._linear(inputs[slot], block + name)

    def shifted(norm: str, part: str) -> tuple[np.ndarray, np.ndarray]:
        h = o._norm(inputs["x"], block + norm)
        before = np.zeros_like(h)
        for s, (a, b) in enumerate(zip(bounds, bounds[1:], strict=False)):
            before[a:b] = np.vstack([inputs.part(states, s, layer, part), h[a : b - 1]])
            inputs.part(states, s, layer, part)[:] = h[b - 1]
        return h, before

    if op == "embed":
        return {"x": o._norm(o.weights["token_embd.weight"][inputs.tokens], "token_embd_norm")}, states
    if op == "head":
        return {"logits": o._linear(o._norm(inputs["x"], "output_norm"), "output")}, states
    if op == "mix6":
        h, before = shifted("attn_norm", "att_shift")
        lerps = vector("time_mix_lerp_fused").reshape(6, -1)
        return {f"x{z}": h + (before - h) * lerp for z, lerp in zip("rwkvag", lerps, strict=True)}, states
    if op == "mix1":
        h, before = shifted("attn_norm_2", "ffn_shift")
        return {"ffn_xk": h + (before - h) * vector("channel_mix_lerp_k").reshape(-1)}, states
    if op == "project":
        out = {z: matrix(f"time_mix_{name}", f"x{z}") for z, name in (("r", "receptance"), ("k", "key"), ("v", "value"))}
        out |= {f"{z}_hidden": f(matrix(f"time_mix_{z}1", f"x{z}")) for z, f in (("w", np.tanh), ("a", np.array), ("g", sigmoid))}
        return out | ({"v_hidden": matrix("time_mix_v1", "xv")} if layer else {}), states
    if op == "output":
        return {"x": inputs["x"] + matrix("time_mix_output", "y")}, states
    if op == "key":
        return {"ffn_hidden": np.maximum(matrix("channel_mix_key", "ffn_xk"), 0) ** 2}, states
    if op == "value":
        return {"x": inputs["x"] + matrix("channel_mix_value", "ffn_hidden")}, states
    assert op == "wkv7"

    def heads(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), 4, 64)

    def lora(z: str) -> np.ndarray:
        return matrix(f"time_mix_{z}2", f"{z}_hidden")

    r, k, v = inputs["r"], inputs["k"], inputs["v"]
    w = np.exp(-oracle.DECAY_SCALE * sigmoid(vector("time_mix_w0") + lora("w")))
    a = sigmoid(vector("time_mix_a0") + lora("a"))
    out = {"v_first": v} if layer == 0 else {}
    if layer != 0:
        v = v + (inputs["v_first"] - v) * sigmoid(vector("time_mix_v0") + lora("v"))
    kk = oracle.l2_normalize(heads(k * vector("time_mix_k_k")))
    k = k * (1 + (a - 1) * vector("time_mix_k_a"))
    r, w, k, v, a = (heads(z) for z in (r, w, k, v, a))
    y = np.empty_like(r)
    for s, (b, e) in enumerate(zip(bounds, bounds[1:], strict=False)):
        y[b:e] = o._wkv7(inputs.part(states, s, layer, "wkv"), *(z[b:e] for z in (r, w, k, v, kk, a)))
    y = layer_norm(y, 1.0, 0.0, oracle.GROUP_NORM_EPS).reshape(len(y), -1) * vector("time_mix_ln") + o.weights[f"{block}time_mix_ln.bias"]
    bonus = (r * k * vector("time_mix_r_k").reshape(4, 64)).sum(-1, keepdims=True)
    return out | {"y": (y + (v * bonus).reshape(len(y), -1)) * lora("g")}, states


def check(device: str, op: str, layer: int, rows: tuple[int, ...], int8: bool, type_name: str, lora_type: str = "F16") -> None:
    model, exact, rounded = model_of(type_name, lora_type)
    entries, data = model.packed()
    runner = _core.OpRunner("rwkv7", config(model), entries, data, device, int8, index_of(op, layer), 1, list(rows))
    inputs = Inputs(runner.slots, rows)
    slots, states = runner.run(inputs.tokens, inputs.slots, inputs.states)
    expected, expected_states = expected_of(op, layer, rounded if int8 else exact, inputs)
    bound = INT8_BOUND if int8 else BOUND[device.split(":")[0]]
    for name, values in expected.items():
        error = np.linalg.norm(slots[name] - values) / np.linalg.norm(values)
        assert error <= bound, (name, error)
    assert np.abs(states - expected_states).max() <= bound * np.abs(expected_states).max()
    untouched = expected_states == inputs.states
    assert np.array_equal(states[untouched], inputs.states[untouched])


OPS = [("embed", 0), ("project", 0), ("wkv7", 0), *((op, 1) for op in OPS_PER_LAYER), ("head", 0)]


def test_the_plan_is_as_this_file_numbers_it():
    model, *_ = model_of("F32")
    entries, data = model.packed()
    kinds = _core.OpRunner("rwkv7", config(model), entries, data, "cpu", False, 0, 1, [1]).kinds
    layer = ["shift_mix", "linear", "wkv7", "linear", "shift_mix", "linear", "linear"]
    assert kinds == ["embed", *layer, *layer, "head"]


@pytest.mark.parametrize("kernel_set", _core.cpu_kernels())
@pytest.mark.parametrize("type_name", ALL_TYPES)
def test_cpu(kernel_set, type_name):
    for op, layer in OPS:
        for rows in ROWS:
            for int8 in (False, True):
                check(f"cpu:{kernel_set}", op, layer, rows, int8, type_name)


# lavapipe takes a tenth of a second for each kernel: every type as a table and as a matrix in one way each, the other ops once.
@pytest.mark.parametrize("op", ["embed", "value"])
def test_webgpu_types(monkeypatch, op):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
    device = webgpu_devices.require("llvmpipe")
    for i, type_name in enumerate(ALL_TYPES):
        check(device, op, 1, ROWS[i % 2], type_name not in FLOAT_TYPES and i // 2 % 2 == 0, type_name)


@pytest.mark.parametrize("op, layer, lora_type", [("mix6", 1, "F16"), ("project", 0, "Q8_0"), ("wkv7", 0, "F32"), ("wkv7", 1, "F16"),
                                                  ("wkv7", 1, "Q5_0"), ("output", 1, "F16"), ("mix1", 1, "F16"), ("key", 0, "F16"), ("head", 0, "F16")])
@pytest.mark.parametrize("rows", ROWS, ids=["one", "many"])
def test_webgpu_ops(monkeypatch, op, layer, lora_type, rows):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
    check(webgpu_devices.require("llvmpipe"), op, layer, rows, rows == (1,) and op in ("key", "project"), "Q4_K", lora_type)
