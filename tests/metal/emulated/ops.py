"""Every op with every tensor type, in shapes that are even and odd, against the CPU backend; four schedules of threads.

In check mode (SOFT_METAL_CHECK=1) the same with fewer tokens: each load and store is followed. That no kernel is forgotten is
seen in ../test_metal_coverage.py.
"""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
from engines import assert_states_close, open_engine, random_tokens, row_errors, tokens_of
from synthetic import ALL_TYPES, BLOCK256_TYPES, build_model, encode

from rwkvnative import _core

CHECK = os.environ.get("SOFT_METAL_CHECK") == "1"
SCHEDULES = (1,) if CHECK else (0, 1, 2, 3)

# Two float32 implementations: roundings of 6e-8 over sums of up to 512 terms, two layers and nine steps of a recurrence. A
# wrong term is per cents. (A GPU's own exp and division are further off; the emulator has the host's.)
BOUND = 2e-5
# Where half tiles of weights or activations are multiplied (11 bits of mantissa): as on the WebGPU backend.
HALF_BOUND = 2e-3


def run_all(engine: _core.Engine, tokens: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """All logits of one prefill, then one token at a time after it: [T + 3, V]; and the state at the end."""
    state = engine.new_state()
    rows = [engine.forward(tokens[:-3], state, state, "all")]
    rows += [engine.forward(tokens[i : i + 1], state, state, "last")[None] for i in range(len(tokens) - 3, len(tokens))]
    return np.concatenate(rows), state.read()


def compare(soft, numerics: str = "f32", n_tokens: int = 9, bound: float = BOUND, **options: object) -> None:
    model = build_model(**options)
    tokens = random_tokens(min(n_tokens, 5) if CHECK else n_tokens, model.shape.n_vocab, seed=4)
    expected, expected_state = run_all(open_engine(model, "cpu"), tokens)
    engine = open_engine(model, "metal", numerics=numerics)
    first = None
    for seed in SCHEDULES:
        soft.schedule(seed)
        logits, state = run_all(engine, tokens)
        assert row_errors(logits, expected).max() <= bound, seed
        assert_states_close(state, expected_state, bound)
        first = logits if first is None else first
        assert np.array_equal(logits, first), f"the result depends on the schedule ({seed})"


def of_type(type_: str) -> dict[str, object]:
    """A model with the type as matrix of every op, embedding, head and LoRA: rows of 256 values, or of 96 where blocks of 32
    allow it; numbers of rows that no tile divides."""
    n = 256 if type_ in BLOCK256_TYPES else 96
    # The decay's LoRA only, where a row must have 256 values: the others would be three times the same.
    ranks = (256, 16, 16, 16) if n == 256 else (32, 64, 32, 96)
    small = {f"time_mix_{z}{i}": "F32" for z in "avg" for i in "12"} if n == 256 else {}
    return dict(n_embd=n, head_size=64 if n == 256 else 48, n_layer=1, n_ff=256 if n == 256 else 160, n_vocab=37, type=type_, head_type=type_,
                lora_type=type_, ranks=ranks, types={f"time_mix_{z}0": "F32" for z in "wav"} | small | {"token_embd.weight": type_}, seed=31)


@pytest.mark.parametrize("type_", ALL_TYPES)
def test_types(soft, monkeypatch, type_):
    """A row of a matrix at a time; a layer in five stages."""
    monkeypatch.setenv("RWKVNATIVE_METAL_DISABLE", "matmul")
    monkeypatch.setenv("RWKVNATIVE_METAL_TUNING", "fuse=2,rows=1")
    compare(soft, **of_type(type_))


@pytest.mark.parametrize("numerics", ["f32", "auto"])
@pytest.mark.parametrize("type_", ALL_TYPES)
def test_types_in_tiles(soft, monkeypatch, type_, numerics):
    """The same with the matrix-matrix kernels, of floats and of halves; and two rows a thread, fused as by default or not."""
    monkeypatch.setenv("RWKVNATIVE_METAL_TUNING", f"matmul_rows=2,rows=2,fuse={2 if numerics == 'f32' else 1}")
    compare(soft, numerics, 5, BOUND if numerics == "f32" else HALF_BOUND, **of_type(type_))


@pytest.mark.parametrize("head_size", [32, 256])
@pytest.mark.parametrize("type_", ("F32", "F16", "BF16", "Q8_0"))
def test_five_stages(soft, monkeypatch, type_, head_size):
    """wkv7 with LoRA matrices of each float type, and of others; matrices that make their mixes, in several passes."""
    monkeypatch.setenv("RWKVNATIVE_METAL_TUNING", "fuse=2,mix_simdgroups=4,mix_passes=2")
    compare(soft, n_embd=256, head_size=head_size, n_layer=2, n_ff=64, n_vocab=20, type="Q4_0", lora_type=type_, ranks=(32, 32, 32, 32),
            n_tokens=6, seed=37)


SHAPES = {
    "odd": dict(n_embd=48, head_size=16, ranks=(7, 5, 3, 11), n_ff=100, n_vocab=37),
    "one layer, wide heads": dict(n_embd=256, head_size=128, ranks=(20, 40, 60, 80), n_layer=1, n_vocab=300),
    "the widest heads": dict(n_embd=256, head_size=256, ranks=(4, 4, 4, 4), n_ff=32, n_vocab=20, type="F16"),
    "heads of 144": dict(n_embd=144, head_size=144, ranks=(4, 4, 4, 4), n_ff=32, n_vocab=20, n_layer=1, lora_type="BF16"),
    "heads of 48": dict(n_embd=96, head_size=48, ranks=(33, 17, 9, 50), n_layer=1),
    "four layers": dict(n_embd=64, head_size=16, type="Q8_0", n_layer=4),
    "large vocabulary": dict(n_embd=32, head_size=32, n_vocab=3001, n_layer=1, n_ff=64),
    "wide": dict(n_embd=512, head_size=64, n_layer=1, n_ff=512, type="Q4_K", head_type="Q6_K", lora_type="F16", n_vocab=50),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(soft, shape):
    compare(soft, seed=23, **SHAPES[shape])


@pytest.mark.parametrize("numerics", ["f32", "auto"])
@pytest.mark.parametrize("type_", ("F32", "Q4_K") if not CHECK else ("F16",))
def test_long_prefill(soft, type_, numerics):
    """Enough rows for the matrix-matrix kernels as they are tuned, and not a multiple of their tiles."""
    n = 256 if type_ in BLOCK256_TYPES else 64
    model = build_model(n_embd=n, n_layer=1, n_ff=n + 32 if n == 64 else n, n_vocab=45, type=type_, head_type=type_, seed=7)
    tokens = random_tokens(37, model.shape.n_vocab, seed=5)
    expected, expected_state = run_all(open_engine(model, "cpu"), tokens)
    engine = open_engine(model, "metal", numerics=numerics)
    for seed in SCHEDULES[:2]:
        soft.schedule(seed)
        logits, state = run_all(engine, tokens)
        bound = BOUND if numerics == "f32" else HALF_BOUND
        assert row_errors(logits, expected).max() <= bound
        assert_states_close(state, expected_state, bound)


VARIANTS = {
    "no-copy off": {"RWKVNATIVE_METAL_DISABLE": "nocopy"},
    "not fused, no matmul": {"RWKVNATIVE_METAL_DISABLE": "fuse,matmul"},
    "rows and lanes": {"RWKVNATIVE_METAL_TUNING": "rows=2,lanes=4,simdgroups=2"},
    "whole simdgroups a row": {"RWKVNATIVE_METAL_TUNING": "lanes=32,rows=1,simdgroups=8"},
    "small groups": {"RWKVNATIVE_METAL_TUNING": "norm_simdgroups=2,chunk=8,lora_simdgroups=4,prefill_rows=3"},
    "five stages": {"RWKVNATIVE_METAL_TUNING": "fuse=2"},
    "five stages, small groups": {"RWKVNATIVE_METAL_TUNING": "fuse=2,mix_simdgroups=2,mix_passes=3,rows=2,lanes=8"},
    "matmul at once": {"RWKVNATIVE_METAL_TUNING": "matmul_rows=2"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(soft, monkeypatch, variant):
    """Every switch and tuning number off its default."""
    for name, value in VARIANTS[variant].items():
        monkeypatch.setenv(name, value)
    compare(soft, n_embd=256, n_layer=2, type="Q4_K", head_type="Q6_K", lora_type="F16", n_vocab=120, n_ff=256, seed=22,
            ranks=(16, 16, 16, 32))


# Matrices that read mixes, of every way to decode.
MIXED = dict(n_embd=256, n_ff=256, n_vocab=37, ranks=(16, 16, 32, 16), seed=24, lora_type="F16", head_type="Q6_K", types={
    "*time_mix_receptance.weight": "Q4_K", "*time_mix_key.weight": "Q8_0", "*time_mix_value.weight": "F32", "*channel_mix_key.weight": "IQ4_XS",
    "*time_mix_w1.weight": "BF16", "*time_mix_g1.weight": "Q4_1"})


@pytest.mark.parametrize("fuse", [1, 2])
def test_half_activations(soft, monkeypatch, fuse):
    """Mixes of norms as halves: near the CPU's numbers, and not what floats give; floats where F32 is asked for."""
    monkeypatch.setenv("RWKVNATIVE_METAL_TUNING", f"half=1,fuse={fuse}")
    compare(soft, "auto", bound=HALF_BOUND, **MIXED)  # a prompt by mat-mat, which reads floats, then tokens
    monkeypatch.setenv("RWKVNATIVE_METAL_DISABLE", "matmul")
    compare(soft, "auto", bound=HALF_BOUND, **MIXED)
    with pytest.raises(AssertionError):
        compare(soft, "auto", **MIXED)
    compare(soft, "f32", n_tokens=5, **MIXED)


@pytest.mark.parametrize("norms, matrices", [(3e4, 1), (1e7, 1e-7), (1e-7, 1e7)])
@pytest.mark.parametrize("fuse", [1, 2])
def test_half_activations_of_any_size(soft, monkeypatch, fuse, norms, matrices):
    """Half ends at 65504 and loses digits below 6e-5. Mixes of 3e4 and more, whose relu^2 is 1e9; and larger and tiny ones,
    which the matrices make up for."""
    monkeypatch.setenv("RWKVNATIVE_METAL_TUNING", f"half=1,fuse={fuse}")
    monkeypatch.setenv("RWKVNATIVE_METAL_DISABLE", "matmul")
    model = build_model(n_embd=64, n_ff=96, n_layer=2, n_vocab=37, seed=34)
    for name, tensor in model.tensors.items():
        reads_mix = re.search(r"time_mix_(receptance|key|value|[wavg]1)\.|channel_mix_key\.", name)
        factor = norms if "attn_norm" in name else matrices if reads_mix else 1
        model.tensors[name] = encode(name, tensor.dequantized() * np.float32(factor), "F32")
    tokens = random_tokens(7, 37, seed=6)
    expected, _ = run_all(open_engine(model, "cpu"), tokens)
    logits, _ = run_all(open_engine(model, "metal", numerics="auto"), tokens)
    assert BOUND < row_errors(logits, expected).max() <= HALF_BOUND


@pytest.mark.parametrize("n_vocab, n_bias", [(777, 3), (1500, 299)])
def test_readouts(soft, n_vocab, n_bias):
    """Hidden states, candidates with biases, and greedy tokens, which stay on the device; of one slice of logits and of two."""
    model = build_model(n_embd=32, head_size=32, n_layer=1, type="Q8_0", n_vocab=n_vocab, seed=9)
    metal, cpu = (open_engine(model, device) for device in ("metal", "cpu"))
    tokens = random_tokens(6, n_vocab, seed=2)
    ids, values = tokens_of(5 * np.arange(n_bias)), np.linspace(-9, 9, n_bias, dtype=np.float32)
    for seed in SCHEDULES:
        soft.schedule(seed)
        hidden, expected = (e.hidden(tokens, None, e.new_state()) for e in (metal, cpu))
        assert row_errors(hidden[None], expected[None]).max() <= BOUND
        (got, logits, total), (want, expected, expected_total) = (e.candidates(tokens, None, e.new_state(), 40, ids, values) for e in (metal, cpu))
        assert np.array_equal(got, want)
        assert np.allclose(logits, expected, rtol=0, atol=1e-4) and abs(total - expected_total) < 1e-4
        assert list(metal.greedy(3, metal.new_state(), 6, [])) == list(cpu.greedy(3, cpu.new_state(), 6, []))


def test_sequences_of_different_lengths(soft):
    """Prompts and single tokens of several sequences in one submit; states that are shared, copied and written back."""
    model = build_model(n_embd=64, n_layer=2, type="Q8_0", seed=12)
    results = []
    for engine in (open_engine(model, "metal"), open_engine(model, "cpu")):
        states = [engine.new_state() for _ in range(5)]
        parts = [random_tokens(n, seed=n) for n in (7, 1, 12, 3, 1)]
        out = [engine.forward_batch(parts, [None] * 5, states, "last")]
        copies = [s.copy() for s in states]
        copies[2].write(states[0].read())
        assert all(np.array_equal(a, b) for a, b in zip(copies[2].read().values(), states[0].read().values()))
        out.append(engine.forward_batch([tokens_of([i]) for i in range(5)], copies, copies, "last"))
        results.append((np.concatenate(out), [s.read() for s in states + copies]))
    (logits, states), (expected, expected_states) = results
    assert row_errors(logits, expected).max() <= BOUND
    for state, want in zip(states, expected_states):
        assert_states_close(state, want, BOUND)
