r"""Logits are no further from the float64 oracle than llama.cpp's CPU backend's are, on the same files.

tests/fixtures/llama_logits.jsonl holds llama.cpp's errors (ggml 0.25.3, AVX-512), written by

    python benchmarks/logits_error.py --llama-logits PROGRAM --shapes tiny --tokens 32 --models 1 --sequences 6 --chunks 1 32 \
        --devices --save FILE

What was measured over many more files, and from where these bounds are: docs/quantization.md.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import webgpu_devices
from engines import devices_under_test, open_engine
from logit_errors import engine_logits, expected_errors, model_of, oracle_logits, text_errors, texts_of
from synthetic import ALL_TYPES, BLOCK256_TYPES, FLOAT_TYPES, SyntheticModel

PEER_FILE = Path(__file__).parent / "fixtures" / "llama_logits.jsonl"
PEER = {(r["type"], r["chunk"]): r for r in map(json.loads, PEER_FILE.read_text().splitlines())}
TYPES = (*ALL_TYPES, "Q4_K_M", "Q5_K_M")
WHOLE = ("Q4_K_M", "Q5_K_M", *BLOCK256_TYPES)

# Our mean row over llama.cpp's, on 6 texts of a model. Both round activations to 127 steps of a scale, ours one for 32 values.
# llama.cpp has one for 256 where weights have blocks of 256, and 1.5 times our error: seen 0.64 to 0.76. Elsewhere it rounds as
# we do, and the two differ as two roundings do: seen 0.97 to 1.02.
MEAN_OVER_PEER = {True: 0.85, False: 1.05}
# Each row relative to what rounding its inputs at random does to it, the root mean square of all rows: seen 0.88 to 1.03; with
# scales for 256 values it is 1.4. And the largest: seen 3.1. The worst row in itself is luck on so few texts: it is one of the
# first of a text, where group norm may amplify any error by ten, and llama.cpp's is as often another one.
OVER_NOISE = 1.1
WORST_OVER_NOISE = 5
# A row of float32 sums: what llama.cpp has is 3e-7 here, and the order of sums decides.
FLOAT32_SUMS = 2e-5
# A chunk with float16 operands on a GPU: llama.cpp's own numerics for F16 files, seen 0.96; a tenth of rounding to int8.
HALVES_OVER_PEER = {"F16": 1.1, "Q4_K": 0.15}
FLOAT_PATH = 0.002  # what was asked for; on a CPU 1e-6 is usual


@functools.cache
def subject(type_name: str) -> tuple[SyntheticModel, np.ndarray, np.ndarray, np.ndarray | None]:
    """The fixture's model, its texts, the oracle's logits, and how far rounding is expected to bring each row from them."""
    peer = PEER[type_name, 1]
    model = model_of(peer["shape"], type_name, peer["model"])
    texts = texts_of(model, peer["model"], len(peer["mean"]), peer["tokens"])
    logits = oracle_logits(model, texts)
    return model, texts, logits, expected_errors(model, texts, logits, 4)


@pytest.mark.parametrize("type_name, chunk", [*((t, 1) for t in TYPES), ("F16", 32), ("Q8_0", 32), ("Q6_K", 32)])
def test_no_further_than_llama_cpp(device, type_name, chunk):
    model, texts, logits, noise = subject(type_name)
    errors = text_errors(engine_logits(open_engine(model, device, numerics="int8"), texts, chunk), logits)
    if type_name == "F32":
        assert errors.max() <= FLOAT32_SUMS
        return
    assert errors.mean() <= MEAN_OVER_PEER[type_name in WHOLE] * np.mean(PEER[type_name, chunk]["mean"])
    if noise is not None:
        assert np.sqrt(((errors / noise) ** 2).mean()) <= OVER_NOISE
        assert (errors / noise).max() <= WORST_OVER_NOISE


def test_rounding_on_a_gpu():
    """What producers and mat-vecs round in kernels is what the CPU rounds, on the file whose worst row stands out most."""
    model, texts, logits, noise = subject("Q6_K")
    engine = open_engine(model, webgpu_devices.require("llvmpipe"), numerics="int8")
    ratios = text_errors(engine_logits(engine, texts[:2], 1), logits[:2]) / noise[:2]
    assert np.sqrt((ratios**2).mean()) <= OVER_NOISE
    assert ratios.max() <= WORST_OVER_NOISE


@pytest.mark.parametrize("type_name", HALVES_OVER_PEER)
def test_chunks_on_a_gpu(monkeypatch, type_name):
    """Products of many rows as GPUs with subgroup matrices make them, float16 operands and float32 sums, by a plain loop."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_TUNING", "matmat=3,matmat_tile=16")
    model, texts, logits, _ = subject(type_name)
    engine = open_engine(model, webgpu_devices.require("llvmpipe"), numerics="int8")
    errors = text_errors(engine_logits(engine, texts[:2], 32), logits[:2])
    assert errors.mean() <= HALVES_OVER_PEER[type_name] * np.mean(PEER[type_name, 32]["mean"][:2])


@pytest.mark.parametrize("type_name", [t for t in TYPES if t not in FLOAT_TYPES])
def test_float_path(device, type_name):
    """The worst row, beside a twentieth of llama.cpp's mean row: it has no such path for these types."""
    model, texts, logits, _ = subject(type_name)
    errors = text_errors(engine_logits(open_engine(model, device, numerics="f32"), texts, 1), logits)
    assert errors.max() <= min(FLOAT_PATH, 0.05 * np.mean(PEER[type_name, 1]["mean"]))
