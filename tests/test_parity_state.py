"""What a caller may rely on about states: chunking, immutability, independence, replay, threads."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest
from engines import assert_same, assert_states_close, f32_bound, open_engine, random_tokens, row_errors, run, tokens_of
from oracle import Oracle
from synthetic import build_model

CHUNKS = [1, 2, 3, 16, 17, 64, 65, 129, 300]
# One call of T rows or many of fewer: the same float32 operations in another order, seen 7e-7 apart (and 0 apart on the
# reference kernels).
F32_CHUNK_BOUND = 5e-6
# With int8 activations a difference in the last bit of a float32 can move a code to its neighbour; from then on the two
# differ as two roundings do: up to the error of int8 numerics itself (0.6 % here, tests/test_parity.py).
INT8_CHUNK_BOUND = 0.01


@pytest.fixture(scope="module")
def model():
    return build_model(n_embd=256, head_size=64, n_layer=3, type="Q4_K", head_type="Q6_K", seed=11)


@pytest.fixture(params=["f32", "int8"])
def engine(request, model, device):
    return open_engine(model, device, numerics=request.param)


def bound_of(numerics: str, device: str) -> float:
    return INT8_CHUNK_BOUND if numerics == "int8" else F32_CHUNK_BOUND if device.startswith("cpu") else f32_bound(device)


@pytest.fixture(scope="module")
def token_by_token(model):
    """(device, numerics) -> (tokens, logits, state) of 300 calls of one token; the longest part of this file, so once."""
    tokens = random_tokens(300)

    @functools.cache
    def run_once(device: str, numerics: str):
        return tokens, *run_single(open_engine(model, device, numerics=numerics), tokens)

    return run_once


@pytest.mark.parametrize("chunk", CHUNKS[1:])
def test_chunks_equal_token_by_token(request, engine, device, token_by_token, chunk):
    numerics = request.node.callspec.params["engine"]
    bound = bound_of(numerics, device)
    tokens, single, end = token_by_token(device, numerics)
    state = engine.new_state()
    rows = np.concatenate([engine.forward(c, state, state, "all") for c in np.split(tokens, range(chunk, 300, chunk))])
    assert rows.shape == single.shape == (300, 300)
    assert np.median(row_errors(rows, single)) <= bound
    assert row_errors(rows, single)[-1] <= 3 * bound  # one row, not the median of 300
    assert_states_close(state.read(), end, 3 * bound)


def test_one_long_call_against_the_oracle(model, device):
    """More tokens than any prefill chunk of the engine."""
    tokens = random_tokens(1100, seed=1)
    expected, expected_state = Oracle.from_model(model).forward(tokens)
    logits, state = run(open_engine(model, device), tokens)
    assert row_errors(logits, expected).max() <= f32_bound(device)
    assert_states_close(state, expected_state, f32_bound(device))


def test_the_input_state_is_not_changed(engine):
    start = engine.new_state()
    engine.forward(random_tokens(5), None, start, "none")
    before = start.read()
    for tokens in (random_tokens(1), random_tokens(40)):
        out = engine.new_state()
        engine.forward(tokens, start, out, "last")
        assert_same(start.read(), before)
        assert not np.array_equal(out.read()["wkv"], before["wkv"])


def test_no_state_is_a_zero_state(engine):
    ends = [engine.new_state() for _ in range(2)]
    zeros = engine.new_state()
    assert all((values == 0).all() for values in zeros.read().values())
    tokens = random_tokens(9)
    logits = [engine.forward(tokens, start, end, "all") for start, end in zip((None, zeros), ends)]
    assert np.array_equal(*logits)
    assert_same(ends[0].read(), ends[1].read())


def test_replay_is_identical(engine):
    """The same call twice, with other work in between, gives the same bits: nothing is left over in any buffer."""
    results = []
    for _ in range(2):
        for n in (1, 7, 64, 130):
            results.append(run(engine, random_tokens(n, seed=n)))
        run(engine, random_tokens(33, seed=5))
    for (logits, state), (again, state_again) in zip(results[:4], results[4:]):
        assert np.array_equal(logits, again)
        assert_same(state_again, state)


def test_states_do_not_share_memory(engine):
    """Three sequences interleaved token by token, against each alone."""
    sequences = [random_tokens(12, seed=s) for s in range(3)]
    alone = [run_single(engine, tokens) for tokens in sequences]
    states = [engine.new_state() for _ in sequences]
    rows = [[] for _ in sequences]
    for i in range(12):
        for tokens, state, out in zip(sequences, states, rows):
            out.append(engine.forward(tokens[i:i + 1], state, state, "last"))
    for (logits, end), state, out in zip(alone, states, rows):
        assert np.array_equal(np.stack(out), logits)
        assert_same(state.read(), end)


def run_single(engine, tokens):
    state = engine.new_state()
    logits = np.stack([engine.forward(tokens[i:i + 1], state, state, "last") for i in range(len(tokens))])
    return logits, state.read()


def test_copy_read_write(engine, model):
    state = engine.new_state()
    engine.forward(random_tokens(10), None, state, "none")
    arrays = state.read()
    shape = model.shape
    assert {name: a.shape for name, a in arrays.items()} == {
        "att_shift": (shape.n_layer, shape.n_embd), "ffn_shift": (shape.n_layer, shape.n_embd),
        "wkv": (shape.n_layer, shape.n_head, shape.head_size, shape.head_size)}
    assert all(a.dtype == np.float32 for a in arrays.values())
    assert state.nbytes == sum(a.nbytes for a in arrays.values())

    copy = state.copy()
    assert_same(copy.read(), arrays)
    restored = engine.new_state()
    restored.write(arrays)
    assert_same(restored.read(), arrays)
    following = [engine.forward(random_tokens(4, seed=9), s, engine.new_state(), "last") for s in (state, copy, restored)]
    assert np.array_equal(following[0], following[1]) and np.array_equal(following[0], following[2])

    engine.forward(random_tokens(1), copy, copy, "none")
    assert_same(state.read(), arrays)  # the copy moved on, the original did not
    arrays["wkv"][:] = 0
    assert np.abs(state.read()["wkv"]).max() > 0  # read() gave a copy


def test_a_written_state_is_the_oracles(model, device):
    """Continue in the engine from an oracle state: fixes the meaning of every axis of the arrays."""
    oracle = Oracle.from_model(model)
    _, state = oracle.forward(random_tokens(30))
    tokens = random_tokens(5, seed=2)
    expected, expected_state = oracle.forward(tokens, state)
    logits, end = run(open_engine(model, device), tokens, state)
    assert row_errors(logits, expected).max() <= f32_bound(device)
    assert_states_close(end, expected_state, f32_bound(device))


@pytest.mark.parametrize("change, words", [
    (lambda a: a.pop("wkv"), ["wkv"]),
    (lambda a: a.update(extra=np.zeros(1, np.float32)), ["extra"]),
    (lambda a: a.update(att_shift=a["att_shift"][:, :-1].copy()), ["att_shift", "256", "255"]),
    (lambda a: a.update(wkv=a["wkv"][:, :, :, :32].copy()), ["wkv", "64", "32"]),
    (lambda a: a.update(wkv=a["wkv"].reshape(-1)), ["wkv"]),
])
def test_writing_wrong_arrays_is_refused(engine, change, words):
    state = engine.new_state()
    engine.forward(random_tokens(3), None, state, "none")
    before = state.read()
    arrays = state.read()
    change(arrays)
    with pytest.raises(ValueError) as error:
        state.write(arrays)
    for word in words:
        assert word in str(error.value)
    assert_same(state.read(), before)


def test_a_state_of_another_model_is_refused(engine):
    other = open_engine(build_model(n_embd=128, seed=1))
    tokens = random_tokens(2)
    with pytest.raises(ValueError):
        engine.forward(tokens, other.new_state(), engine.new_state(), "last")
    with pytest.raises(ValueError):
        engine.forward(tokens, None, other.new_state(), "last")


@pytest.mark.parametrize("n_threads", [1, 2, 3, 5])
def test_the_number_of_threads_does_not_change_the_numbers(model, device, n_threads):
    """Rows are split among threads, no sum is."""
    tokens = random_tokens(40)
    reference, state = run(open_engine(model, device, n_threads=2), tokens)
    logits, end = run(open_engine(model, device, n_threads=n_threads), tokens)
    assert np.array_equal(logits, reference)
    assert_same(end, state)


def test_python_threads_on_one_engine(engine):
    """Four threads at once, each with its own state, get the numbers that each gets alone."""
    jobs = [random_tokens(n, seed=n) for n in (50, 70, 1, 20)]
    alone = [run(engine, tokens) for tokens in jobs]
    results: list = [None] * len(jobs)
    start = threading.Barrier(len(jobs))

    def work(i: int) -> None:
        start.wait()
        for _ in range(5):
            results[i] = run(engine, jobs[i])
            if not np.array_equal(results[i][0], alone[i][0]):
                return  # the comparison below reports it

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (logits, state), (expected, expected_state) in zip(results, alone):
        assert np.array_equal(logits, expected)
        assert_same(state, expected_state)


def test_states_outlive_the_name_of_their_engine(model, device):
    engine = open_engine(model, device)
    state = engine.new_state()
    engine.forward(random_tokens(3), None, state, "none")
    before = state.read()
    del engine
    assert_same(state.read(), before)
    assert_same(state.copy().read(), before)


def test_empty_and_wild_tokens_are_refused(engine):
    state = engine.new_state()
    engine.forward(random_tokens(3), None, state, "none")
    before = state.read()
    for tokens, word in ((tokens_of([]), "token"), (tokens_of([1, 300]), "300"), (tokens_of([1, 2, -1]), "-1"),
                         (tokens_of([2**31 - 1]), str(2**31 - 1))):
        with pytest.raises(ValueError) as error:
            engine.forward(tokens, state, state, "last")
        assert word in str(error.value)
        assert_same(state.read(), before)


def test_wrong_arguments_are_refused(engine):
    state = engine.new_state()
    with pytest.raises(ValueError) as error:
        engine.forward(random_tokens(3), None, state, "some")
    assert "some" in str(error.value)
    for tokens in (np.zeros((2, 2), np.int32), np.zeros(2, np.float32), "abc"):
        with pytest.raises((ValueError, TypeError)):
            engine.forward(tokens, None, state, "last")


def test_interleaved_engines(device):
    """Two models at once keep their weights and scratch memory apart."""
    models = [build_model(n_embd=64, seed=1), build_model(n_embd=96, head_size=32, n_layer=3, seed=2)]
    engines = [open_engine(m, device) for m in models]
    expected = [run(open_engine(m, device), random_tokens(20)) for m in models]
    for _ in range(2):
        for engine, (logits, state) in zip(engines, expected):
            got, end = run(engine, random_tokens(20))
            assert np.array_equal(got, logits)
            assert_same(end, state)


def test_refusals_are_input_errors(engine):
    from rwkvnative.errors import InputError

    with pytest.raises(InputError):
        engine.forward(tokens_of([]), None, engine.new_state(), "last")
