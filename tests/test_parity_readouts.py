"""The engine's other results, each against the logits that define it: hidden vectors, candidate lists, greedy decode."""

from __future__ import annotations

import numpy as np
import pytest
from engines import assert_same, f32_bound, open_engine, random_tokens, row_errors, run, tokens_of
from oracle import Oracle
from synthetic import build_model

NO_IDS, NO_VALUES = np.zeros(0, np.int32), np.zeros(0, np.float32)


@pytest.fixture(scope="module")
def model():
    return build_model(n_embd=256, n_layer=2, n_vocab=1000, type="Q4_K", seed=58)


@pytest.fixture(params=["f32", "int8"])
def engine(request, model, device):
    return open_engine(model, device, numerics=request.param)


def test_hidden_enters_the_head(model, device):
    tokens = random_tokens(20, 1000)
    expected, expected_state = Oracle.from_model(model).hidden(tokens)
    engine = open_engine(model, device)
    state = engine.new_state()
    hidden = engine.hidden(tokens, None, state)
    assert hidden.dtype == np.float32 and hidden.shape == (256,)
    assert row_errors(hidden[None], expected[-1:])[0] <= f32_bound(device)
    assert row_errors(state.read()["att_shift"], expected_state["att_shift"]).max() <= f32_bound(device)


def log_sum_exp(x: np.ndarray) -> float:
    x = x.astype(np.float64)
    return float(x.max() + np.log(np.exp(x - x.max()).sum()))


@pytest.mark.parametrize("k", [1, 2, 40, 999, 1000])
@pytest.mark.parametrize("n_tokens", [1, 30])
def test_candidates_are_the_largest_logits(engine, k, n_tokens):
    tokens = random_tokens(n_tokens, 1000)
    ends = [engine.new_state() for _ in range(2)]
    logits = engine.forward(tokens, None, ends[0], "last")
    ids, values, total = engine.candidates(tokens, None, ends[1], k, NO_IDS, NO_VALUES)
    order = np.lexsort((np.arange(1000), -logits))[:k]  # by falling logit, then by rising id
    assert ids.dtype == np.int32 and values.dtype == np.float32
    assert ids.tolist() == order.tolist()
    assert np.array_equal(values, logits[order])
    assert total == pytest.approx(log_sum_exp(logits), abs=1e-4)  # float32 sum of 1000 terms of order one
    assert_same(ends[1].read(), ends[0].read())


def test_bias_moves_candidates(engine):
    tokens = random_tokens(5, 1000)
    logits = engine.forward(tokens, None, engine.new_state(), "last")
    ids, values = tokens_of([3, 999, 0, int(logits.argmax())]), np.array([100, 50, -3, -np.inf], np.float32)
    biased = logits.copy()
    biased[ids] += values
    got_ids, got, total = engine.candidates(tokens, None, engine.new_state(), 50, ids, values)
    order = np.lexsort((np.arange(1000), -biased))[:50]
    assert got_ids.tolist() == order.tolist() and got_ids[:2].tolist() == [3, 999]
    assert np.array_equal(got, biased[order])
    assert total == pytest.approx(log_sum_exp(biased), abs=1e-4)
    again = engine.candidates(tokens, None, engine.new_state(), 50, NO_IDS, NO_VALUES)
    assert again[0][0] == logits.argmax()  # a bias holds for its own call only


def test_a_repeated_bias_adds_up_or_is_refused(engine):
    """Whichever it is, it is not silently one of the two."""
    tokens = random_tokens(5, 1000)
    logits = engine.forward(tokens, None, engine.new_state(), "last")
    try:
        ids, values, _ = engine.candidates(tokens, None, engine.new_state(), 1, tokens_of([7, 7]), np.array([40, 40], np.float32))
    except ValueError as error:
        assert "7" in str(error)
    else:
        assert ids[0] == 7 and values[0] == pytest.approx(logits[7] + 80, rel=1e-6)


@pytest.mark.parametrize("k, ids, values", [
    (0, [], []), (-1, [], []), (1001, [], []), (5, [1000], [1.0]), (5, [-1], [1.0]), (5, [1, 2], [1.0]),
    (5, [1], [float("nan")]),
])
def test_wrong_candidate_arguments_are_refused(engine, k, ids, values):
    with pytest.raises((ValueError, TypeError)):
        engine.candidates(random_tokens(2), None, engine.new_state(), k, tokens_of(ids), np.array(values, np.float32))


def greedy_by_logits(engine, token: int, state, n: int) -> list[int]:
    out = []
    for _ in range(n):
        token = int(engine.forward(tokens_of([token]), state, state, "last").argmax())
        out.append(token)
    return out


def test_greedy_is_argmax(engine):
    start = engine.new_state()
    engine.forward(random_tokens(10, 1000), None, start, "none")
    by_logits, on_device = start.copy(), start.copy()
    expected = greedy_by_logits(engine, 5, by_logits, 40)
    assert len(set(expected)) > 10  # a model that repeats itself would prove little (hence the seed)
    assert engine.greedy(5, on_device, 40, NO_IDS, None) == expected
    assert_same(on_device.read(), by_logits.read())


def test_greedy_stops(engine):
    """It ends with the first stop token, which it returns; the state has then seen all returned tokens but that one."""
    start = engine.new_state()
    expected = greedy_by_logits(engine, 5, start.copy(), 30)
    at = next(i for i in range(5, 30) if expected[i] not in expected[:i])
    unused = next(i for i in range(1000) if i not in expected)
    state, seen_all_but_last = start.copy(), start.copy()
    assert engine.greedy(5, state, 30, tokens_of([unused, expected[at]]), None) == expected[:at + 1]
    greedy_by_logits(engine, 5, seen_all_but_last, at + 1)
    assert_same(state.read(), seen_all_but_last.read())


def test_greedy_stops_when_the_callback_says_so(engine):
    expected = greedy_by_logits(engine, 5, engine.new_state(), 10)
    seen: list[int] = []
    state, seen_all_but_last = engine.new_state(), engine.new_state()
    assert engine.greedy(5, state, 30, NO_IDS, lambda token: seen.append(token) or len(seen) < 7) == expected[:7]
    assert seen == expected[:7]
    greedy_by_logits(engine, 5, seen_all_but_last, 7)
    assert_same(state.read(), seen_all_but_last.read())


def test_greedy_callback_errors_come_through(engine):
    class Oops(Exception):
        pass

    def fail(token: int) -> bool:
        raise Oops

    state = engine.new_state()
    with pytest.raises(Oops):
        engine.greedy(1, state, 10, NO_IDS, fail)
    assert engine.greedy(1, engine.new_state(), 3, NO_IDS, None) == greedy_by_logits(engine, 1, engine.new_state(), 3)


def test_greedy_of_none(engine):
    state = engine.new_state()
    assert engine.greedy(1, state, 0, NO_IDS, None) == []
    assert (state.read()["wkv"] == 0).all()
    for token, n in ((1000, 3), (-1, 3), (1, -1)):
        with pytest.raises((ValueError, TypeError)):
            engine.greedy(token, state, n, NO_IDS, None)


def test_results_do_not_alias_the_engine(engine):
    """An array that was handed out is not overwritten by the next call."""
    tokens = random_tokens(4, 1000)
    first, _ = run(engine, tokens)
    kept = first.copy()
    listed = engine.candidates(tokens, None, engine.new_state(), 5, NO_IDS, NO_VALUES)
    kept_ids = listed[0].copy()
    run(engine, random_tokens(4, 1000, seed=1))
    engine.candidates(random_tokens(4, 1000, seed=2), None, engine.new_state(), 5, NO_IDS, NO_VALUES)
    assert np.array_equal(first, kept) and np.array_equal(listed[0], kept_ids)
