"""Writes tests/fixtures: numbers of the official RWKV-7 implementation, to hold ours against.

For each shape in FIXTURES a small random checkpoint is made with the official parameter names and shapes, run by the
`rwkv` package (PyTorch, strategy "cpu fp32") and converted to GGUF. Written per fixture:

    NAME.gguf  the same weights under GGUF names, all F32
    NAME.npz   tokens [T] int32; n_prefill: the first n_prefill tokens went through the package's sequence mode, the rest
               one at a time; logits [T, V]; att_shift, ffn_shift [L, C] and wkv [L, H, N value, N key] after the last
               token; prefill_* the same state after n_prefill tokens; rwkv_version

Needs torch, the rwkv package and gguf:

    python python/tools/make_fixtures.py [--out tests/fixtures]

The weights are rounded to bfloat16, as published checkpoints are, so that the files compress in git.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import synthetic  # noqa: E402  (tests/ is not a package)
from gguf import GGMLQuantizationType as GgmlType  # noqa: E402

N_TOKENS, N_PREFILL = 48, 40

FIXTURES = {
    # Two heads of the published head size; F is not 4C, ranks are neither equal nor powers of two.
    "official_head64": synthetic.Shape(n_layer=2, n_embd=128, head_size=64, n_ff=256, n_vocab=300, ranks=(24, 16, 12, 40)),
    # Three layers, three heads of 32: odd counts.
    "official_head32": synthetic.Shape(n_layer=3, n_embd=96, head_size=32, n_ff=160, n_vocab=272, ranks=(16, 24, 8, 20)),
}


def official_checkpoint(shape: synthetic.Shape, seed: int) -> dict[str, np.ndarray]:
    """Random parameters under the names and shapes of RWKV-LM's RWKV-7 checkpoints, float32 with bfloat16 values."""
    rng = np.random.default_rng(seed)
    c, f, v, n = shape.n_embd, shape.n_ff, shape.n_vocab, shape.head_size
    decay, iclr, value, gate = shape.ranks
    z: dict[str, np.ndarray] = {}

    def matrix(name: str, rows: int, cols: int, scale: float) -> None:
        z[name] = rng.standard_normal((rows, cols)) * scale

    def norm(name: str) -> None:
        z[f"{name}.weight"] = 1 + 0.2 * rng.standard_normal(c)
        z[f"{name}.bias"] = 0.1 * rng.standard_normal(c)

    matrix("emb.weight", v, c, 0.5)
    norm("blocks.0.ln0")
    for i in range(shape.n_layer):
        att, ffn = f"blocks.{i}.att.", f"blocks.{i}.ffn."
        norm(f"blocks.{i}.ln1")
        norm(f"blocks.{i}.ln2")
        for mix in "rwkvag":
            z[f"{att}x_{mix}"] = rng.uniform(0, 1, (1, 1, c))
        z[f"{att}w0"] = np.linspace(-6, 1, c).reshape(1, 1, c) + 0.5 * rng.standard_normal((1, 1, c))
        z[f"{att}a0"] = 0.5 * rng.standard_normal((1, 1, c))
        z[f"{att}v0"] = 0.7 + 0.3 * rng.standard_normal((1, 1, c))
        for name, rank in (("w", decay), ("a", iclr), ("v", value), ("g", gate)):
            matrix(f"{att}{name}1", c, rank, c ** -0.5)
            matrix(f"{att}{name}2", rank, c, rank ** -0.5)
        z[f"{att}k_k"] = 0.85 + 0.1 * rng.standard_normal((1, 1, c))
        z[f"{att}k_a"] = 1.0 + 0.1 * rng.standard_normal((1, 1, c))
        z[f"{att}r_k"] = 0.2 * rng.standard_normal((shape.n_head, n))
        for name in ("receptance", "key", "value", "output"):
            matrix(f"{att}{name}.weight", c, c, c ** -0.5)
        norm(f"{att}ln_x")
        z[f"{ffn}x_k"] = rng.uniform(0, 1, (1, 1, c))
        matrix(f"{ffn}key.weight", f, c, c ** -0.5)
        matrix(f"{ffn}value.weight", c, f, f ** -0.5)
    norm("ln_out")
    matrix("head.weight", v, c, 2 * c ** -0.5)
    return {name: to_bfloat16(array) for name, array in z.items()}


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """float32 rounded to the nearest bfloat16 value (halves away from zero, which is enough here)."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    return ((bits + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)


def to_gguf_names(z: dict[str, np.ndarray], shape: synthetic.Shape) -> dict[str, np.ndarray]:
    """The checkpoint under GGUF names, numpy order. Official LoRA matrices are [in, out], the file wants [out, in]."""
    out: dict[str, np.ndarray] = {}

    def norm(name: str, official: str) -> None:
        out[f"{name}.weight"], out[f"{name}.bias"] = z[f"{official}.weight"], z[f"{official}.bias"]

    out["token_embd.weight"] = z["emb.weight"]
    norm("token_embd_norm", "blocks.0.ln0")
    for i in range(shape.n_layer):
        att, ffn, b = f"blocks.{i}.att.", f"blocks.{i}.ffn.", f"blk.{i}."
        norm(b + "attn_norm", f"blocks.{i}.ln1")
        norm(b + "attn_norm_2", f"blocks.{i}.ln2")
        norm(b + "time_mix_ln", f"{att}ln_x")
        out[b + "time_mix_lerp_fused.weight"] = np.stack([z[f"{att}x_{mix}"] for mix in "rwkvag"])
        for name in ("w0", "a0", "v0", "k_k", "k_a", "r_k"):
            # The converter overwrites block 0's unused value residual with the in-context learning rate's tensors.
            source = name.replace("v", "a") if i == 0 and name == "v0" else name
            out[f"{b}time_mix_{name}.weight"] = z[att + source].reshape(-1)
        for name in ("w1", "w2", "a1", "a2", "v1", "v2", "g1", "g2"):
            source = name.replace("v", "a") if i == 0 else name
            out[f"{b}time_mix_{name}.weight"] = z[att + source].T
        for name in ("receptance", "key", "value", "output"):
            out[f"{b}time_mix_{name}.weight"] = z[f"{att}{name}.weight"]
        out[b + "channel_mix_lerp_k.weight"] = z[f"{ffn}x_k"].reshape(-1)
        out[b + "channel_mix_key.weight"] = z[f"{ffn}key.weight"]
        out[b + "channel_mix_value.weight"] = z[f"{ffn}value.weight"]
    norm("output_norm", "ln_out")
    out["output.weight"] = z["head.weight"]
    return out


def write_gguf(path: Path, z: dict[str, np.ndarray], shape: synthetic.Shape) -> None:
    tensors = {}
    for name, array in to_gguf_names(z, shape).items():
        data = np.ascontiguousarray(array, dtype=np.float32)
        tensors[name] = synthetic.Tensor(name, GgmlType.F32, data.shape[::-1], data.reshape(-1).view(np.uint8))
    tokens, token_types = synthetic.world_tokens(shape.n_vocab)
    synthetic.write_model(path, synthetic.SyntheticModel(shape, tensors, tokens, token_types, {"general.name": path.stem}))


def run_official(z: dict[str, np.ndarray], tokens: list[int], n_prefill: int) -> dict[str, np.ndarray]:
    """Logits of every token and the states, from the rwkv package on the CPU in float32."""
    os.environ.update(RWKV_V7_ON="1", RWKV_JIT_ON="0", RWKV_CUDA_ON="0")
    import torch
    from rwkv.model import RWKV

    with tempfile.TemporaryDirectory() as folder:
        torch.save({name: torch.from_numpy(array) for name, array in z.items()}, f"{folder}/model.pth")
        model = RWKV(model=f"{folder}/model", strategy="cpu fp32")

    def as_arrays(state, prefix: str = "") -> dict[str, np.ndarray]:
        # The package's flat list per layer: attention shift [C], S [H, N value, N key], feed-forward shift [C].
        names = ("att_shift", "wkv", "ffn_shift")
        return {prefix + name: np.stack([s.numpy().copy() for s in state[j::3]]) for j, name in enumerate(names)}

    logits, state = model.forward(tokens[:n_prefill], None, full_output=True)
    rows = [logits.numpy().copy()]
    result = as_arrays(state, "prefill_")
    for token in tokens[n_prefill:]:
        logits, state = model.forward([token], state)
        rows.append(logits.numpy().copy()[None])
    return {"logits": np.concatenate(rows), **result, **as_arrays(state)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "fixtures")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for seed, (name, shape) in enumerate(FIXTURES.items(), start=7):
        z = official_checkpoint(shape, seed)
        tokens = np.random.default_rng(seed).integers(0, shape.n_vocab, N_TOKENS, dtype=np.int32)
        numbers = run_official(z, tokens.tolist(), N_PREFILL)
        write_gguf(out / f"{name}.gguf", z, shape)
        np.savez_compressed(out / f"{name}.npz", tokens=tokens, n_prefill=N_PREFILL,
                            rwkv_version=importlib.metadata.version("rwkv"), **numbers)
        print(name, {k: a.shape for k, a in numbers.items()}, "logits std", numbers["logits"].std(),
              "wkv max", np.abs(numbers["wkv"]).max())


if __name__ == "__main__":
    main()
