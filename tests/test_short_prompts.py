"""Programs of few rows for short prompts (Engine::rows_for, LoadedModel::short_rows): every length on both sides of every size,
alone and in company, and that there are no more Programs, and no more kernels, than that takes.

A software GPU has none of them by itself, for its kernels are the same for any number of rows: `short_rows` asks for them, and
the forms of matrix products make the sizes differ as they do on hardware. Dawn's validation is on.
"""

from __future__ import annotations

import functools

import numpy as np
import oracle
import pytest
import webgpu_devices
from engines import assert_states_close, config, open_engine, random_tokens, row_errors, run, tokens_of
from synthetic import SyntheticModel, build_model

from rwkvnative import _core

SMALL = dict(n_embd=64, head_size=32, n_layer=1, n_ff=96, n_vocab=61, ranks=(7, 5, 3, 11), seed=31)
# 1 token, mat-vecs of several columns for 16 rows, tiles of 64 rows, and a chunk of 128 of which 255 and more take several.
LENGTHS = (1, 2, 3, 15, 16, 17, 63, 64, 65, 255, 256, 257)
SIZES = "short_rows=80"  # 16 and 64
# Products of 17 rows and more as on a GPU without subgroup matrices, and as on one that has them (float16 operands; the bounds'
# reasons are in test_webgpu_matmat.py). Below, mat-vecs of several columns.
FORMS = {"float": ("matmat=4", 2e-3), "halves": ("matmat=3,matmat_tile=16", 5e-3)}


@pytest.fixture
def gpu(monkeypatch) -> str:
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
    return webgpu_devices.require("llvmpipe")


@functools.cache
def small() -> SyntheticModel:
    return build_model(**SMALL)


@functools.cache
def expected(n_tokens: int) -> tuple[np.ndarray, np.ndarray, oracle.State]:
    """(tokens, logits of all, state) of the oracle, from a fresh state."""
    tokens = random_tokens(n_tokens, 61, seed=n_tokens)
    return tokens, *oracle.Oracle.from_model(small()).forward(tokens)


@pytest.mark.parametrize("form", FORMS)
def test_every_length_alone_and_in_batches(gpu, monkeypatch, form):
    products, bound = FORMS[form]
    some = LENGTHS if form == "float" else (3, 16, 17, 64, 65)
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_TUNING", f"{products},{SIZES}")
    engine = open_engine(small(), gpu)
    assert engine.info["prefill_rows"] == 128
    for n in some:
        tokens, logits, state = expected(n)
        end = engine.new_state()
        assert row_errors(engine.forward(tokens, None, end, "last")[None], logits[-1:]).max() <= bound, n
        assert_states_close(end.read(), state, bound)
    # 16, 64 and 128 rows; 128 rows of a chunk whose logits nobody asks for; and one token.
    assert engine.info["programs"] == (5 if form == "float" else 3)
    for lengths in ((1, 2, 3), (15, 1), (16, 17, 3), (63, 1), (64, 1), some):
        ends = [engine.new_state() for _ in lengths]
        got = engine.forward_batch([expected(n)[0] for n in lengths], [None] * len(lengths), ends)
        for i, n in enumerate(lengths):
            assert row_errors(got[i][None], expected(n)[1][-1:]).max() <= bound, (lengths, n)
            assert_states_close(ends[i].read(), expected(n)[2], bound)


def test_a_prompt_joins_those_that_decode(gpu, monkeypatch):
    """Continuous batching: a token for each of some sequences and a prompt in one call, whatever Program that makes it."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_TUNING", f"matmat=4,{SIZES}")
    engine, reference = open_engine(small(), gpu), oracle.Oracle.from_model(small())
    texts = [random_tokens(n, 61, seed=90 + n) for n in range(3, 8)]
    states = [engine.new_state() for _ in texts]
    for text, state in zip(texts, states, strict=True):
        engine.forward(text, None, state, "none")
    for step, n_prompt in enumerate((4, 11, 40, 59, 60, 100)):  # with the five tokens 9, 16, 45, 64, 65, 105 rows
        tokens = [tokens_of([t]) for t in random_tokens(5, 61, seed=200 + step)]
        prompt, end = random_tokens(n_prompt, 61, seed=300 + step), engine.new_state()
        got = engine.forward_batch([*tokens, prompt], [*states, None], [*states, end])
        texts = [np.concatenate(pair) for pair in zip(texts, tokens, strict=True)]
        for row, state, text in zip(got, [*states, end], [*texts, prompt], strict=True):
            logits, after = reference.forward(text)
            assert row_errors(row[None], logits[-1:]).max() <= 2e-3, n_prompt
            assert_states_close(state.read(), after, 2e-3)


def test_programs_are_few_and_small(gpu, monkeypatch):
    """A long prompt's last tokens take its own Program; none is made that no call needs; results have the size of the call."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_TUNING", f"matmat=4,{SIZES}")
    engine = open_engine(small(), gpu)
    state = engine.new_state()
    for n, programs in ((131, 2), (100, 2), (7, 3), (2, 3), (20, 4), (64, 4), (1, 5), (3, 5), (130, 5)):
        engine.forward(random_tokens(n, 61), state, state, "last")
        assert engine.info["programs"] == programs, n
    scratch = {}
    for sizes, programs in ((SIZES, [1, 2]), ("short_rows=1", [1, 1])):
        engine.set_tuning(f"matmat=4,{sizes}")
        for n in (16, 64):
            logits, end = run(engine, expected(n)[0])
            assert row_errors(logits, expected(n)[1]).max() <= 2e-3
            assert_states_close(end, expected(n)[2], 2e-3)
            assert engine.info["programs"] == programs.pop(0)
            scratch[sizes, n] = engine.info["scratch_bytes"]
    assert scratch[SIZES, 16] < scratch["short_rows=1", 16] / 4
    assert scratch[SIZES, 64] < scratch["short_rows=1", 64]


@pytest.mark.parametrize("where", ["cpu", "llvmpipe"])
def test_where_rows_do_not_matter_there_is_one_program(where):
    engine = open_engine(small(), where if where == "cpu" else webgpu_devices.require(where))
    state = engine.new_state()
    for n in (2, 17, 65):
        engine.forward(random_tokens(n, 61), None, state, "last")
        assert engine.info["programs"] == 1


def test_programs_are_bounded():
    """24 at most, as csrc/core/engine.h says; the oldest go first."""
    engine = open_engine(small())
    state = engine.new_state()
    none = np.empty(0, np.int32), np.empty(0, np.float32)
    for k in range(1, 40):
        engine.candidates(tokens_of([1, 2, 3]), None, state, k, *none)
        assert engine.info["programs"] == min(k, 24)


def test_kernels_are_compiled_once(gpu):
    """What is read out, and of how many sequences, changes the kernels of the head and behind it and no others."""
    entries, data = small().packed()
    benchmark = _core.WebgpuBenchmark("rwkv7", config(small()), entries, data, gpu, "f32")
    made = lambda sequences, rows, k=0: benchmark.batch("", sequences, rows, k, 0.0, 1)["kernels"]  # noqa: E731
    assert made(1, 8) > 8
    assert made(2, 4) == made(4, 2) == 0
    assert made(1, 8, 5) == 4  # norm, head, add_bias, top_k


def test_they_keep_to_a_budget(gpu, monkeypatch):
    """Weights that stream, Programs of all sizes by turns: the same bits as without a budget, and within it."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_TUNING", "short_rows=4")  # of 16
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_MAX_BINDING", "700000")
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_DISABLE", "carry")  # the kernels of the resident model, which are compiled already
    model = build_model(**{**SMALL, "n_layer": 5, "n_vocab": 2500})
    entries, data = model.packed()

    def opened(budget: int) -> _core.Engine:
        return _core.Engine("rwkv7", config(model), entries, data, gpu, 2, "f32", None, max_device_memory=budget)

    def texts(engine: _core.Engine) -> list[np.ndarray]:
        state, results = engine.new_state(), []
        for n in (21, 3, 1, 4, 16, 5, 1, 40, 2):
            results.append(engine.forward(random_tokens(n, 2500, seed=50 + n), state, state, "last"))
        return [*results, *state.read().values()]

    usual = opened(0)
    expected_texts, weights = texts(usual), usual.info["weight_bytes"]
    assert usual.info["programs"] == 4  # one token; 4 and 16 rows; a chunk whose logits nobody asks for
    for budget, streams in ((weights, True), (weights * 8 // 5, False)):  # most layers pass through; all just fit
        engine = opened(budget)
        assert engine.info["prefill_rows"] == usual.info["prefill_rows"] == 16
        assert (engine.info["streamed_bytes"] > 0) == streams
        for got, wanted in zip(texts(engine), expected_texts, strict=True):
            assert np.array_equal(got, wanted)
        info = engine.info
        assert info["device_bytes_used"] <= info["device_bytes_peak"] <= budget
        assert 2 <= info["programs"] <= 4
