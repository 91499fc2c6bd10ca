"""Several sequences in one call of the engine: the same numbers as one at a time, whoever shares the batch."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest
from engines import (
    assert_same,
    assert_states_close,
    case,
    f32_bound,
    open_engine,
    random_tokens,
    row_errors,
    run,
    tokens_of,
)
from oracle import Oracle
from rwkvnative import _core
from rwkvnative.errors import InputError
from synthetic import ALL_TYPES, FLOAT_TYPES, build_model

# Alone, a token or three go through the mat-vec kernels, in company through the mat-mat ones: the same float32 operations in
# another order, 5e-7 apart, and 2e-5 in rows where group norm amplifies a head near zero. With int8 activations that order may
# move a code to its neighbour (see test_parity_state.py).
F32_BOUND = 5e-5
INT8_BOUND = 0.03

LENGTHS = [1, 2, 15, 16, 17, 63, 64, 65, 300]


def bound_of(numerics: str, device: str) -> float:
    return INT8_BOUND if numerics == "int8" else F32_BOUND if device.startswith("cpu") else f32_bound(device)


@pytest.fixture(scope="module")
def model():
    return build_model(n_embd=128, n_layer=2, type="Q8_0", n_ff=256, seed=51)


@pytest.fixture(params=["f32", "int8"])
def numerics(request):
    return request.param


@pytest.fixture
def engine(model, device, numerics):
    return open_engine(model, device, numerics=numerics)


def sequences_of(lengths, seed: int = 0) -> list[np.ndarray]:
    return [random_tokens(n, seed=seed + i) for i, n in enumerate(lengths)]


def alone(engine, tokens, state=None):
    """Logits [V] after the last token, and the state, of one call for one sequence."""
    end = engine.new_state()
    return engine.forward(tokens, state, end, "last"), end


def batch(engine, sequences, states=None, **options):
    ends = [engine.new_state() for _ in sequences]
    return engine.forward_batch(sequences, states or [None] * len(sequences), ends, **options), ends


def assert_batch_is_alone(engine, sequences, bound, states=None) -> None:
    logits, ends = batch(engine, sequences, states)
    assert logits.shape == (len(sequences), 300) and logits.dtype == np.float32
    expected = [alone(engine, s, state) for s, state in zip(sequences, states or [None] * len(sequences), strict=True)]
    assert row_errors(logits, np.stack([e[0] for e in expected])).max() <= bound
    for end, (_, state) in zip(ends, expected, strict=True):
        assert_states_close(end.read(), state.read(), 3 * bound)


# ------------------------------------------------------------------------------------------------------------- numbers


def test_lengths(engine, device, numerics):
    """One batch of all lengths, up to more than one submit takes and one more."""
    rows = engine.info["prefill_rows"]
    assert_batch_is_alone(engine, sequences_of([*LENGTHS, rows, rows + 1]), bound_of(numerics, device))


def test_lengths_against_the_oracle(model, device):
    sequences = sequences_of(LENGTHS)
    logits, ends = batch(open_engine(model, device), sequences)
    for row, end, tokens in zip(logits, ends, sequences, strict=True):
        expected, state = Oracle.from_model(model).forward(tokens)
        assert row_errors(row[None], expected[-1:]).max() <= f32_bound(device)
        assert_states_close(end.read(), state, f32_bound(device))


@pytest.mark.parametrize("type_name", ALL_TYPES)
def test_every_type(device, type_name):
    """A crowd of single tokens and a ragged batch; with int8 activations too, where the type has codes."""
    c = case(70, n_embd=256, n_layer=2, type=type_name, seed=1)
    parts = np.split(c.tokens, [1, 2, 4, 9, 30])
    oracle = Oracle.from_model(c.model)
    expected = np.stack([oracle.forward(p)[0][-1] for p in parts])
    logits, ends = batch(open_engine(c.model, device), parts)
    assert row_errors(logits, expected).max() <= f32_bound(device)
    for end, tokens in zip(ends, parts, strict=True):
        assert_states_close(end.read(), oracle.forward(tokens)[1], f32_bound(device))
    if type_name not in FLOAT_TYPES:
        logits, _ = batch(open_engine(c.model, device, numerics="int8"), parts)
        assert np.median(row_errors(logits, expected)) <= 0.02  # of int8 activations, tests/test_parity.py


@pytest.mark.parametrize("n_sequences", [1, 2, 3, 4, 5, 8, 31, 33])
def test_decoding_crowds(engine, device, numerics, n_sequences):
    """Every sequence brings one token, three times over; the states are changed in place."""
    states = [alone(engine, s)[1] for s in sequences_of([1 + i % 7 for i in range(n_sequences)], seed=5)]
    single = [s.copy() for s in states]
    for step in range(3):
        tokens = [tokens_of([t]) for t in random_tokens(n_sequences, seed=60 + step)]
        logits = engine.forward_batch(tokens, states, states)
        expected = np.stack([engine.forward(t, s, s, "last") for t, s in zip(tokens, single, strict=True)])
        assert row_errors(logits, expected).max() <= bound_of(numerics, device)


def test_more_sequences_than_a_submit_takes(engine, device, numerics):
    n = engine.info["max_batch"] + 5
    assert_batch_is_alone(engine, sequences_of([1 + (i % 50 == 0) * 40 for i in range(n)]), bound_of(numerics, device))


def test_company_does_not_matter(engine, device, numerics):
    """The same sequence in first, middle and last place, with long and short neighbours of other contents."""
    mine = random_tokens(21, seed=99)
    expected, state = alone(engine, mine)
    for seed, lengths in enumerate(([], [1], [5] * 3, [130, 1, 40], [1] * 40)):
        others = sequences_of(lengths, seed=200 + 50 * seed)
        for place in {0, len(others) // 2, len(others)}:
            logits, ends = batch(engine, [*others[:place], mine, *others[place:]])
            assert row_errors(logits[place][None], expected[None]).max() <= bound_of(numerics, device)
            assert_states_close(ends[place].read(), state.read(), 3 * bound_of(numerics, device))


def test_neighbours_do_not_leak(engine):
    """NaN in one state must stay there."""
    broken = engine.new_state()
    broken.write({name: np.full_like(values, np.nan) for name, values in broken.read().items()})
    sequences = sequences_of([3, 20, 1])
    healthy, _ = batch(engine, sequences)
    logits, ends = batch(engine, sequences, [None, broken, None])
    assert np.isnan(logits[1]).any()
    for i in (0, 2):
        assert np.array_equal(logits[i], healthy[i])
        assert all(np.isfinite(values).all() for values in ends[i].read().values())


def test_a_replay_is_the_same(engine):
    sequences = sequences_of([5, 1, 140, 30])
    first, ends = batch(engine, sequences)
    again, ends_again = batch(engine, sequences)
    assert np.array_equal(first, again)
    for a, b in zip(ends, ends_again, strict=True):
        assert_same(a.read(), b.read())


# -------------------------------------------------------------------------------------------------------------- states


def test_a_state_may_be_read_by_several_and_is_not_changed(engine, device, numerics):
    _, shared = alone(engine, random_tokens(30, seed=8))
    before = shared.read()
    assert_batch_is_alone(engine, sequences_of([4, 1, 140]), bound_of(numerics, device), [shared, shared, shared])
    assert_same(shared.read(), before)


def test_states_in_place(engine, device, numerics):
    sequences = sequences_of([30, 1, 200], seed=3)
    expected, ends = batch(engine, sequences)
    states = [engine.new_state() for _ in sequences]
    logits = engine.forward_batch(sequences, states, states)
    assert row_errors(logits, expected).max() <= bound_of(numerics, device)
    for state, end in zip(states, ends, strict=True):
        assert_states_close(state.read(), end.read(), 3 * bound_of(numerics, device))


def test_one_writer_for_each_state(engine):
    a, b, c = (alone(engine, random_tokens(3, seed=i))[1] for i in range(3))
    before = [s.read() for s in (a, b, c)]
    one = tokens_of([1])
    with pytest.raises(InputError, match="sequence 2.*sequence 0 writes the same state"):
        engine.forward_batch([one] * 3, [a, b, c], [a, b, a])
    with pytest.raises(InputError, match="sequence 0: state_in: sequence 1 writes this state"):
        engine.forward_batch([one] * 2, [b, a], [c, b])
    with pytest.raises(InputError, match="sequence 1.*sequence 0 writes the same state"):
        engine.greedy_batch(tokens_of([1, 2]), [a, a], 3)
    for state, values in zip((a, b, c), before, strict=True):
        assert_same(state.read(), values)


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("sequences, words", [
    ([], ["at least one sequence"]),
    ([[1], []], ["sequence 1", "at least one"]),
    ([[1], [2, 3], [4, 300]], ["sequence 2", "tokens[1]", "0 to 299", "300"]),
    ([[-1], [1]], ["sequence 0", "-1"]),
])
def test_bad_tokens_name_their_sequence(engine, sequences, words):
    with pytest.raises(InputError) as error:
        batch(engine, [tokens_of(s) for s in sequences])
    for word in words:
        assert word in str(error.value)


def test_bad_arguments(engine):
    states = [engine.new_state(), engine.new_state()]
    one = tokens_of([1])
    nothing = (tokens_of([]), np.zeros(0, np.float32))
    for call, words in [
        (lambda: engine.forward_batch([one], [None, None], states), "expected one per sequence, 1"),
        (lambda: engine.forward_batch([one], [None], [None]), "sequence 0: state_out"),
        (lambda: engine.forward_batch([one], [None], states[:1], "all"), "all"),
        (lambda: engine.candidates_batch([one] * 2, [None] * 2, states, 5, [None]), "biases: expected one per sequence, 2"),
        (lambda: engine.candidates_batch([one], [None], states[:1], 0, [None]), "k: expected 1 to 300"),
        (lambda: engine.candidates_batch([one], [None], states[:1], 301, [None]), "k: expected 1 to 300"),
        (lambda: engine.candidates_batch([one] * 2, [None] * 2, states, 5, [None, (tokens_of([300]), np.zeros(1, np.float32))]),
         "sequence 1: bias: expected token ids from 0 to 299, got 300"),
        (lambda: engine.candidates_batch([one] * 2, [None] * 2, states, 5, [nothing, (one, np.zeros(2, np.float32))]),
         "sequence 1: bias: expected as many values"),
        (lambda: engine.greedy_batch(tokens_of([1, 2]), states[:1], 3), "as many states as tokens"),
        (lambda: engine.greedy_batch(tokens_of([1, 300]), states, 3), "sequence 1"),
        (lambda: engine.greedy_batch(tokens_of([]), [], 3), "at least one sequence"),
    ]:
        with pytest.raises(InputError, match=words):
            call()


def test_a_state_of_another_model(model, device):
    engine, other = open_engine(model, device), open_engine(model, device)
    with pytest.raises(InputError, match="another model"):
        engine.forward_batch([tokens_of([1])], [other.new_state()], [engine.new_state()])
    with pytest.raises(InputError, match="another model"):
        engine.greedy_batch(tokens_of([1]), [other.new_state()], 1)


# ------------------------------------------------------------------------------------------------- candidates, greedy


def test_candidates_are_those_of_one_at_a_time(model, device):
    """Sorted lists of a ragged batch, each with its own bias; some end in an earlier submit than others."""
    engine = open_engine(model, device)
    sequences = sequences_of([1, 140, 3, 300, 1])
    biases = [None, (tokens_of([7, 9]), np.array([50, -50], np.float32)), None, (tokens_of([5]), np.array([30], np.float32)),
              (tokens_of([]), np.zeros(0, np.float32))]
    empty = biases[-1]
    ends = [engine.new_state() for _ in sequences]
    ids, logits, sums = engine.candidates_batch(sequences, [None] * 5, ends, 40, biases)
    assert ids.shape == logits.shape == (5, 40) and sums.shape == (5,)
    for i, tokens in enumerate(sequences):
        state = engine.new_state()
        one_ids, one_logits, one_sum = engine.candidates(tokens, None, state, 40, *(biases[i] or empty))
        assert ids[i, 0] == one_ids[0] and len(set(ids[i].tolist()) ^ set(one_ids.tolist())) <= 2  # near ties may swap
        assert np.abs(logits[i] - one_logits).max() <= 1e-3 * np.abs(one_logits).max()
        assert sums[i] == pytest.approx(one_sum, abs=1e-3)
        assert_states_close(ends[i].read(), state.read(), 3 * bound_of("f32", device))
    assert ids[1, 0] == 7 and ids[3, 0] == 5 and 9 not in ids[1]


def test_greedy_batch_is_greedy(model, device):
    engine = open_engine(model, device)
    n = 5
    states = [alone(engine, s)[1] for s in sequences_of([3] * n, seed=40)]
    single = [s.copy() for s in states]
    got = engine.greedy_batch(tokens_of(range(n)), states, 30)
    assert got.shape == (30, n) and got.dtype == np.int32
    for i, state in enumerate(single):
        assert engine.greedy(i, state, 30, tokens_of([])) == got[:, i].tolist()
        assert_states_close(states[i].read(), state.read(), 3 * bound_of("f32", device))
    assert engine.greedy_batch(tokens_of(range(n)), states, 0).shape == (0, n)


@pytest.mark.parametrize("way", ["greedy", "drawn"])
def test_steps_are_seen_as_they_come(model, device, way):
    """A callback ends the run with the steps that were begun, all of which it sees; states are those after what it saw."""
    engine = open_engine(model, device)
    if way == "drawn" and not engine.can_draw(3, False):
        assert not device.startswith("webgpu")
        return
    us = np.random.default_rng(8).random((30, 3))

    def start() -> list:
        return [engine.new_state() for _ in range(3)]

    def tokens_from(states: list, n: int, callback) -> np.ndarray:
        if way == "greedy":
            return engine.greedy_batch(tokens_of([1, 2, 3]), states, n, callback)
        return engine.draw_on([tokens_of([t]) for t in (1, 2, 3)], states, [_core.Draw(top_p=0.9)] * 3, us[:n], [None] * 3, callback)

    seen: list[list[int]] = []
    states = start()
    got = tokens_from(states, 30, lambda tokens: seen.append(tokens) or len(seen) < 4)
    assert 4 <= len(got) <= 10 and got.tolist() == seen
    again = start()
    assert tokens_from(again, len(got), None).tolist() == seen
    for state, other in zip(states, again, strict=True):
        assert_states_close(state.read(), other.read(), 1e-6)

    class Stop(Exception):
        pass

    def stop(tokens: list[int]) -> bool:
        raise Stop

    with pytest.raises(Stop):
        tokens_from(start(), 30, stop)
    assert len(tokens_from(start(), 2, None)) == 2  # the engine goes on


# ------------------------------------------------------------------------------------- packing, progress, interruption


def test_submits_are_full(engine):
    """Ragged lengths cost no padding: as many submits as rows need, whatever the mix; progress counts tokens."""
    rows = engine.info["prefill_rows"]
    for lengths in ([1] * (2 * rows), [5 * rows], [rows + 1, rows - 1], [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5] * 40,
                    [7 * rows, *[1] * 50, 300], list(range(1, 70))):
        calls: list[tuple[int, int]] = []
        batch(engine, sequences_of(lengths), rows="none", progress=lambda done, total: calls.append((done, total)))  # noqa: B023
        total = sum(lengths)
        assert calls[-1] == (total, total)
        assert [done for done, _ in calls[:-1]] == list(range(rows, total, rows)), lengths


def test_progress_may_stop_it_and_states_stay_valid(engine, device, numerics):
    """After an exception between two submits every state is that after some of its tokens."""
    rows = engine.info["prefill_rows"]
    sequences = sequences_of([2 * rows, rows, 3], seed=70)

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2 * rows:
            raise Stop

    states = [engine.new_state() for _ in sequences]
    with pytest.raises(Stop):
        engine.forward_batch(sequences, states, states, "none", stop)
    read = 0
    for tokens, state in zip(sequences, states, strict=True):
        values = state.read()
        walk, errors = engine.new_state(), []
        for token in tokens:  # after which of its tokens?
            engine.forward(tokens_of([token]), walk, walk, "none")
            errors.append(float(np.abs(walk.read()["wkv"] - values["wkv"]).max()))
        n = 1 + int(np.argmin(errors))
        assert_states_close(values, run(engine, tokens[:n])[1], 3 * bound_of(numerics, device))
        read += n
    assert read == 2 * rows


def test_progress_of_one_sequence(engine):
    rows = engine.info["prefill_rows"]
    calls: list[tuple[int, int]] = []
    tokens = random_tokens(2 * rows + 7)
    state = engine.new_state()
    engine.forward(tokens, None, state, "none", lambda done, total: calls.append((done, total)))
    n = len(tokens)
    assert calls == [(rows, n), (2 * rows, n), (n, n)]


def test_ctrl_c_between_submits(model, device):
    engine = open_engine(model, device)
    tokens = random_tokens(100_000)
    states = [engine.new_state(), engine.new_state()]
    engine.forward_batch([tokens[:300]] * 2, states, states, "none")  # compiles
    begin = time.process_time()
    engine.forward_batch([tokens[:2000]] * 2, states, states, "none")
    whole = 50 * (time.process_time() - begin)
    interrupted = threading.Event()

    def interrupt() -> None:
        while not interrupted.is_set():  # until the main thread is in the call
            time.sleep(0.02)
            signal.raise_signal(signal.SIGINT)

    def once(*_: object) -> None:
        if not interrupted.is_set() and begun:
            interrupted.set()
            raise KeyboardInterrupt

    begun = False
    before = signal.signal(signal.SIGINT, once)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            begin, begun = time.process_time(), True
            engine.forward_batch([tokens, tokens], states, states, "none")
        assert time.process_time() - begin < whole / 2, "it must not first read all"
    finally:
        interrupted.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    for state in states:
        assert all(np.isfinite(values).all() for values in state.read().values())
    engine.forward_batch([tokens[:3]] * 2, states, states)


def test_ctrl_c_between_steps(model, device):
    """Of a batch that no callback looks at."""
    engine = open_engine(model, device)
    states = [engine.new_state(), engine.new_state()]
    engine.greedy_batch(tokens_of([1, 2]), states, 2)  # compiles
    begin = time.process_time()  # of the processor: others that wait for it do not count
    engine.greedy_batch(tokens_of([1, 2]), states, 200)
    whole = 1000 * (time.process_time() - begin)
    timer = threading.Timer(0.05, signal.raise_signal, [signal.SIGINT])
    with pytest.raises(KeyboardInterrupt):
        begin = time.process_time()
        timer.start()
        engine.greedy_batch(tokens_of([1, 2]), states, 200_000)
    assert time.process_time() - begin < whole / 2, "it must not first make all"
    timer.join()
    assert len(engine.greedy_batch(tokens_of([1, 2]), states, 2)) == 2


def test_scratch_is_bounded_and_reported(model, device):
    """Programs are kept for a few rounded sizes, not for every size of a crowd."""
    engine = open_engine(model, device)
    states = [engine.new_state() for _ in range(70)]
    one = tokens_of([1])
    shared, seen = engine.info["scratch_bytes"], set()
    for n in (*range(1, 70), *range(70, 0, -1)):
        engine.forward_batch([one] * n, states[:n], states[:n])
        seen.add(engine.info["scratch_bytes"])
    assert min(seen) > shared and len(seen) <= 8  # 1, 2, 4, ... 128 rows
    for k in range(1, 60):  # a program for each k
        engine.candidates_batch([one] * 2, states[:2], states[:2], k, [None] * 2)
    bytes_of_many = engine.info["scratch_bytes"]
    for k in range(60, 120):
        engine.candidates_batch([one] * 2, states[:2], states[:2], k, [None] * 2)
    assert engine.info["scratch_bytes"] - shared <= 1.2 * (bytes_of_many - shared)
    # The CPU reads weights where the file has them, and has memory that all Programs share.
    assert (engine.info["device_bytes"] > 0) == (shared == 0) == (not device.startswith("cpu"))
