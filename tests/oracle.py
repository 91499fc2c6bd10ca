"""RWKV-7 in float64 numpy: the reference that the engine is tested against.

Written for reading, from the paper (Peng et al. 2025, "RWKV-7 Goose with Expressive Dynamic State Evolution") and the
GGUF tensor names; it shares no code with rwkvnative. Files are read with gguf.GGUFReader and gguf.quants.dequantize.
tests/test_oracle.py checks it against numbers of the official `rwkv` package.

Symbols as in the paper: C width, N head size, H heads, F feed-forward width, V vocabulary, T tokens, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np
from gguf import GGMLQuantizationType as GgmlType

if TYPE_CHECKING:
    from synthetic import SyntheticModel

State = dict[str, np.ndarray]

GROUP_NORM_EPS = 64e-5  # fixed in the architecture: 1e-5 * 8^2
L2_NORM_EPS = 1e-12
DECAY_SCALE = np.exp(-0.5)  # 0.606531
FLOAT_TYPES = (GgmlType.F32, GgmlType.F16, GgmlType.BF16)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))  # the same function, without overflow


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """Over the last axis, biased variance."""
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


def l2_normalize(x: np.ndarray) -> np.ndarray:
    """Over the last axis: x / max(|x|, eps), as torch.nn.functional.normalize and ggml_l2_norm."""
    return x / np.maximum(np.sqrt((x * x).sum(-1, keepdims=True)), L2_NORM_EPS)


def round_to_int8(x: np.ndarray, block: int = 32) -> np.ndarray:
    """x as int8 codes with one scale max|x|/127 per `block` values of the last axis, and back."""
    blocks = x.reshape(*x.shape[:-1], -1, block)
    scale = np.abs(blocks).max(-1, keepdims=True) / 127
    return (np.rint(blocks / np.where(scale == 0, 1, scale)) * scale).reshape(x.shape)


@dataclass(frozen=True)
class Config:
    n_layer: int
    n_embd: int
    head_size: int
    norm_eps: float

    @property
    def n_head(self) -> int:
        return self.n_embd // self.head_size


def _read_gguf(path: str | Path) -> tuple[Config, dict[str, np.ndarray], dict[str, GgmlType]]:
    reader = gguf.GGUFReader(path)

    def key(name: str) -> float:
        return reader.fields[f"rwkv7.{name}"].contents()

    weights = {}
    for t in reader.tensors:
        values = gguf.quants.dequantize(t.data, t.tensor_type)
        weights[t.name] = values.reshape([int(n) for n in reversed(t.shape)])
    return Config(int(key("block_count")), int(key("embedding_length")), int(key("wkv.head_size")),
                  float(key("attention.layer_norm_epsilon"))), weights, {t.name: t.tensor_type for t in reader.tensors}


class Oracle:
    """A model: `Oracle(path)` from a GGUF file, `Oracle.from_model(m)` from a synthetic.SyntheticModel.

    A matrix {ne0 = inputs, ne1 = outputs} of the file is numpy [outputs, inputs] and is applied as x @ W.T.

    int8_activations: round the input of every quantized matrix to int8, one scale per 32 values, as the engine's int8
    numerics do. It tells how much of an engine's error that rounding explains; it is no reference.
    """

    def __init__(self, path: str | Path, int8_activations: bool = False):
        self._set(*_read_gguf(path), int8_activations)

    @classmethod
    def from_model(cls, model: SyntheticModel, int8_activations: bool = False) -> Oracle:
        self = cls.__new__(cls)
        shape, tensors = model.shape, model.tensors.values()
        self._set(Config(shape.n_layer, shape.n_embd, shape.head_size, float(np.float32(shape.norm_eps))),
                  {t.name: t.dequantized() for t in tensors}, {t.name: t.ggml_type for t in tensors}, int8_activations)
        return self

    def _set(self, config: Config, weights: dict[str, np.ndarray], types: dict[str, GgmlType], int8: bool) -> None:
        self.config = config
        self.weights = {name: w.astype(np.float64) for name, w in weights.items()}
        self._int8_inputs = {name for name, t in types.items() if int8 and t not in FLOAT_TYPES}

    def zero_state(self) -> State:
        """att_shift [L, C], ffn_shift [L, C], wkv [L, H, N value, N key]; zeros, float64."""
        c = self.config
        return {"att_shift": np.zeros((c.n_layer, c.n_embd)), "ffn_shift": np.zeros((c.n_layer, c.n_embd)),
                "wkv": np.zeros((c.n_layer, c.n_head, c.head_size, c.head_size))}

    def forward(self, tokens, state: State | None = None) -> tuple[np.ndarray, State]:
        """tokens: T ids. Returns (logits [T, V], state after the last token). `state` is not changed."""
        hidden, state = self.hidden(tokens, state)
        return self._linear(hidden, "output"), state

    def hidden(self, tokens, state: State | None = None) -> tuple[np.ndarray, State]:
        """As `forward`, but the vectors [T, C] that enter the head."""
        state = self.zero_state() if state is None else {k: np.array(v, dtype=np.float64) for k, v in state.items()}
        x = self.weights["token_embd.weight"][np.asarray(tokens, dtype=np.int64)]
        x = self._norm(x, "token_embd_norm")
        v_first = None
        for layer in range(self.config.n_layer):
            out, v_first = self._time_mix(layer, x, v_first, state)
            x = x + out
            x = x + self._channel_mix(layer, x, state)
        return self._norm(x, "output_norm"), state

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return layer_norm(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], self.config.norm_eps)

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        name += ".weight"
        return (round_to_int8(x) if name in self._int8_inputs else x) @ self.weights[name].T

    def _time_mix(self, layer: int, x: np.ndarray, v_first: np.ndarray | None, state: State):
        """x [T, C] -> (what is added to x, v_first). Changes the layer's att_shift and wkv."""
        block = f"blk.{layer}.time_mix_"
        t, heads = len(x), (len(x), self.config.n_head, self.config.head_size)
        h = self._norm(x, f"blk.{layer}.attn_norm")
        h_prev = np.vstack([state["att_shift"][layer], h[:-1]])
        state["att_shift"][layer] = h[-1]
        lerp = dict(zip("rwkvag", self.weights[block + "lerp_fused.weight"].reshape(6, -1), strict=True))

        def weight(leaf: str) -> np.ndarray:
            return self.weights[f"{block}{leaf}.weight"]

        def mix(z: str) -> np.ndarray:
            return h + (h_prev - h) * lerp[z]

        def lora(z: str, inner=lambda u: u) -> np.ndarray:
            return self._linear(inner(self._linear(mix(z), f"{block}{z}1")), f"{block}{z}2")

        r = self._linear(mix("r"), block + "receptance")
        k = self._linear(mix("k"), block + "key")
        v = self._linear(mix("v"), block + "value")
        w = np.exp(-DECAY_SCALE * sigmoid(weight("w0") + lora("w", np.tanh)))
        a = sigmoid(weight("a0") + lora("a"))
        g = lora("g", sigmoid)
        if layer == 0:
            v_first = v
        else:
            v = v + (v_first - v) * sigmoid(weight("v0") + lora("v"))
        kk = l2_normalize((k * weight("k_k")).reshape(heads))
        k = k * (1 + (a - 1) * weight("k_a"))

        r, w, k, v, a = (z.reshape(heads) for z in (r, w, k, v, a))
        y = self._wkv7(state["wkv"][layer], r, w, k, v, kk, a)
        y = layer_norm(y, 1.0, 0.0, GROUP_NORM_EPS).reshape(t, -1)
        y = y * weight("ln") + self.weights[block + "ln.bias"]
        bonus = (r * k * weight("r_k").reshape(heads[1:])).sum(-1, keepdims=True)
        y = y + (v * bonus).reshape(t, -1)
        return self._linear(y * g, block + "output"), v_first

    @staticmethod
    def _wkv7(s: np.ndarray, r, w, k, v, kk, a) -> np.ndarray:
        """The recurrence: r w k v kk a [T, H, N] -> y [T, H, N]; s [H, N value, N key] is changed in place.

        s = s diag(w) + (s (-kk)) (kk * a)^T + v k^T;  y = s r
        """
        y = np.empty_like(r)
        for t in range(len(r)):
            s_kk = s @ kk[t][:, :, None]  # [H, N, 1]
            s[:] = (s * w[t][:, None, :] - s_kk * (kk[t] * a[t])[:, None, :] + v[t][:, :, None] * k[t][:, None, :])
            y[t] = (s @ r[t][:, :, None])[..., 0]
        return y

    def _channel_mix(self, layer: int, x: np.ndarray, state: State) -> np.ndarray:
        """x [T, C] -> what is added to x. Changes the layer's ffn_shift."""
        block = f"blk.{layer}.channel_mix_"
        h = self._norm(x, f"blk.{layer}.attn_norm_2")
        h_prev = np.vstack([state["ffn_shift"][layer], h[:-1]])
        state["ffn_shift"][layer] = h[-1]
        mixed = h + (h_prev - h) * self.weights[block + "lerp_k.weight"].reshape(-1)
        return self._linear(np.maximum(self._linear(mixed, block + "key"), 0) ** 2, block + "value")
