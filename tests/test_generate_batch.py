"""Model.generate with a list of prompts, and Model.forward_batch: each text as if made alone, whoever is beside it."""

from __future__ import annotations

import numpy as np
import pytest
import synthetic
import webgpu_devices

from rwkvnative import DeviceError, InputError, Model, RwkvError, State
from rwkvnative.batching import default_batch_size, is_batch
from rwkvnative.sampling import Candidates, Greedy, Sampler, TopK

N_VOCAB = 3000  # more than the longest list of candidates that a device makes, so such lists are in use
BAN_END = {0: -float("inf")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """float32 numerics: in company sums round differently by 1e-7, which tips no draw of these tests."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    synthetic.make_model(path, n_vocab=N_VOCAB)
    return Model(path, "cpu", n_threads=2, numerics="f32")


def prompts_of(n: int) -> list[str]:
    """Of one token to several hundred: some are read in one step, some in many."""
    words = "hello world, once upon a time there was a fox who lost a hat"
    return [words[: 1 + 7 * i % len(words)] * (1 if i % 5 else 1 + 6 * i) for i in range(n)]


def tokens(results) -> list[list[int]]:
    return [r.tokens for r in results]


OPTIONS = {
    "greedy": {"temperature": 0.0},
    "default": {},
    "pure": {"top_p": 1.0},  # reads all logits
    "penalties": {"presence_penalty": 0.5, "frequency_penalty": 0.5, "penalty_decay": 0.99, "repeat_penalty": 1.1},
    "mirostat": {"mirostat": True},
    "typical": {"typical_p": 0.6, "top_p": 1.0},
    "bias": {"logit_bias": {0: -float("inf"), 100: 3.0}},
}


# ------------------------------------------------------------------------------------------------ the same as one by one


@pytest.mark.parametrize("name", OPTIONS)
def test_each_text_is_that_of_its_prompt_alone(model: Model, name: str) -> None:
    """More prompts than places, so that some enter while others are in the middle."""
    prompts = prompts_of(11)
    results = model.generate(prompts, 24, seed=5, batch_size=4, **OPTIONS[name])
    for i, (prompt, result) in enumerate(zip(prompts, results, strict=True)):
        alone = model.generate(prompt, 24, seed=5 + i, **OPTIONS[name])
        assert result.tokens == alone.tokens, i
        assert (result.text, result.finish_reason, result.stop, result.seed) == (
            alone.text, alone.finish_reason, alone.stop, alone.seed)  # fmt: skip
        assert result.timings.prompt_tokens == len(model.tokenizer.encode(prompt))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 50])
def test_the_number_of_places_does_not_matter(model: Model, batch_size: int) -> None:
    prompts = prompts_of(9)
    assert tokens(model.generate(prompts, 12, seed=1, batch_size=batch_size)) == tokens(model.generate(prompts, 12, seed=1))


def test_company_does_not_matter(model: Model) -> None:
    mine = {"prompt": "a fox", "seed": 77}
    alone = model.generate("a fox", 30, seed=77).tokens
    for others in ([], ["x"], prompts_of(6), [{"prompt": "y", "temperature": 0}] * 3):
        for place in (0, len(others)):
            results = model.generate([*others[:place], mine, *others[place:]], 30, batch_size=3)
            assert results[place].tokens == alone


def test_options_of_each_prompt(model: Model) -> None:
    """Greedy, sampled, all logits, own samplers, stops, limits and states in one crowd."""
    _, state = model.forward([5, 6, 7])
    own = [
        {"temperature": 0.0},
        {"seed": 3, "top_p": 0.95},
        {"seed": 3, "top_p": 1.0, "max_tokens": 9},
        {"seed": 4, "stop": [" "], "top_k": 40},
        {"seed": 4, "state": state},
        {"temperature": 0.0, "state": state, "logit_bias": {7: 2.5}},
        {"seed": 9, "mirostat": True, "mirostat_tau": 3.0},
        {"max_tokens": 0},
    ]
    results = model.generate([{"prompt": "hello", **o} for o in own], 20, batch_size=5)
    for o, result in zip(own, results, strict=True):
        alone = model.generate("hello", **{"max_tokens": 20, **o})
        assert result.tokens == alone.tokens and result.finish_reason == alone.finish_reason and result.stop == alone.stop, o
    samplers = model.generate([{"prompt": "hello", "samplers": [TopK(3)], "seed": 8}, "hello"], 10, top_p=0.9)
    assert samplers[0].tokens == model.generate("hello", 10, samplers=[TopK(3)], seed=8).tokens


def test_token_ids_and_bytes_are_prompts_too(model: Model) -> None:
    ids = model.tokenizer.encode("hello")
    forms = ["hello", b"hello", ids, np.array(ids), tuple(ids), {"prompt": ids}]
    results = tokens(model.generate([{"prompt": f, "seed": 2} if not isinstance(f, dict) else {**f, "seed": 2} for f in forms], 8))
    assert all(t == results[0] for t in results)
    assert tokens(model.generate((ids, ids), 8, temperature=0)) == [model.generate(ids, 8, temperature=0).tokens] * 2
    assert is_batch(["a"]) and is_batch([[1]]) and not is_batch([1, 2]) and not is_batch("ab") and not is_batch(np.ones((2, 2)))


def test_equal_prompts_get_different_texts(model: Model) -> None:
    results = model.generate(["hello"] * 4, 20, seed=1)
    assert len({tuple(t) for t in tokens(results)}) == 4
    assert [r.seed for r in results] == [1, 2, 3, 4]
    drawn = model.generate(["hello"] * 2, 20)
    assert tokens(model.generate([{"prompt": "hello", "seed": r.seed} for r in drawn], 20)) == tokens(drawn)


def test_a_step_may_be_repeated_for_more_candidates(model: Model) -> None:
    """Lists of 128 that do not decide, of several sequences in one step; their states must not have moved on twice."""
    for options in ({"temperature": 20.0, "top_p": 0.99}, {"min_p": 1e-3, "temperature": 8.0, "top_p": 1.0}):
        results = model.generate(["hello", "a fox", "hat"], 15, seed=1, **options)
        for i, prompt in enumerate(("hello", "a fox", "hat")):
            assert results[i].tokens == model.generate(prompt, 15, seed=1 + i, **options).tokens


def test_shared_state(model: Model) -> None:
    _, state = model.forward([5, 6, 7])
    before = state.numpy()
    results = model.generate(["a", "b", "c"], 10, seed=1, state=state)
    for i, prompt in enumerate("abc"):
        assert results[i].tokens == model.generate(prompt, 10, seed=1 + i, state=state).tokens
    for a, b in zip(before, state.numpy(), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_states_of_results_go_on(model: Model) -> None:
    results = model.generate(prompts_of(5), 12, seed=1, batch_size=2)
    for prompt, result in zip(prompts_of(5), results, strict=True):
        _, expected = model.forward([*model.tokenizer.encode(prompt), *result.tokens])
        np.testing.assert_allclose(result.state.numpy()[1].wkv, expected.numpy()[1].wkv, rtol=1e-4, atol=1e-5)


class Called:
    """An engine, and which of its methods were asked for."""

    def __init__(self, engine) -> None:
        self._engine, self.called = engine, set()

    def __getattr__(self, name: str):
        self.called.add(name)
        return getattr(self._engine, name)


def test_on_a_software_gpu(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the CPU: steps, bursts of tokens that the device chooses, greedily or drawn, a late comer; and, with a chain that is the
    host's, candidates. Prompts of one token, because lavapipe takes a minute to compile what reads more; ragged
    batches on it are test_webgpu_states.py's."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
    synthetic.make_model(tmp_path / "m.gguf", n_layer=1)
    greedy = {"temperature": 0}
    penalties = {"presence_penalty": 0.5, "frequency_penalty": 0.5, "penalty_decay": 0.9, "repeat_penalty": 1.5, "repeat_last_n": 4}
    batches = [
        [greedy, greedy, greedy],
        [{"top_p": 0.9}, greedy, {"top_k": 30, "min_p": 0.01, "temperature": 1.3, "logit_bias": {3: 2.0, 9: -float("inf")}}],
        [penalties, {"top_p": 0.9}, penalties | greedy],
        [{"typical_p": 0.9}, penalties],
    ]
    prompts = [[{"prompt": [5 + i], "seed": i, **options} for i, options in enumerate(batch)] for batch in batches]
    with Model(tmp_path / "m.gguf", "cpu", numerics="f32") as cpu:
        expected = [[cpu.generate([p], 12)[0].tokens for p in batch] for batch in prompts]
    with Model(tmp_path / "m.gguf", webgpu_devices.require("llvmpipe"), numerics="f32") as gpu:
        gpu._engine = engine = Called(gpu._engine)
        for batch, texts in zip(prompts, expected, strict=True):
            assert tokens(gpu.generate(batch, 12, batch_size=2)) == texts
        assert engine.called >= {"greedy_batch", "draw_batch", "draw_on", "candidates_batch"}


# ----------------------------------------------------------------------------------------------------------- scheduling


class Watch(Sampler):
    """Writes down when its sequence chooses a token."""

    def __init__(self, log: list[int], index: int) -> None:
        self._log, self._index = log, index

    def accept(self, token: int) -> None:
        self._log.append(self._index)


def watched(n: int, limits: list[int]) -> tuple[list[dict], list[int]]:
    log: list[int] = []
    return [{"prompt": "hello", "samplers": [Watch(log, i), TopK(5)], "max_tokens": limits[i], "seed": i} for i in range(n)], log


def test_a_free_place_is_taken_at_once(model: Model) -> None:
    """Two places: the long first text runs through, the short ones pass through the other place one after another."""
    prompts, log = watched(4, [9, 3, 3, 3])
    model.generate(prompts, stop=[], batch_size=2)
    model_ends = [r.finish_reason for r in model.generate(watched(4, [9, 3, 3, 3])[0], batch_size=2)]
    assert model_ends == ["length"] * 4  # else the order below would be another
    assert log == [0, 1] * 3 + [0, 2] * 3 + [0, 3] * 3


def test_who_waits_or_leaves_ends_a_run_of_steps(model: Model) -> None:
    """The device feeds itself until a sequence ends for which another waits, or until one in eight has ended."""

    def runs(lengths: list[int], places: int) -> list[tuple[int, int]]:
        stream = model.generate([{"prompt": [7 + i], "max_tokens": n} for i, n in enumerate(lengths)],
                                temperature=0.0, batch_size=places, stream=True)  # fmt: skip
        engine, log = stream._batch._engine, []

        class Steps:
            def __getattr__(self, name: str):
                return getattr(engine, name)

            def greedy_batch(self, *arguments):
                tokens = engine.greedy_batch(*arguments)
                log.append(tokens.shape)
                return tokens

        stream._batch._engine = Steps()
        stream._batch.burst_seconds = 60.0
        list(stream)
        assert [g.finish_reason for g in stream.results] == ["length"] * len(lengths)
        return log

    # The first token of each comes from a step that reads its prompt, beside which the others go on.
    assert runs([9, 4, 4], 2) == [(3, 2), (3, 2), (1, 1)]
    assert runs([8, 4, *[8] * 7], 9) == [(7, 9)]
    assert runs([8, 4, 4, *[8] * 6], 9) == [(3, 9), (4, 7)]
    assert runs([8, 4, *[8] * 7, 3], 9) == [(3, 9), (3, 9)]


def test_a_long_prompt_does_not_stop_the_others(model: Model) -> None:
    """While its hundreds of tokens are read, the others make one token a step."""
    prompts, log = watched(2, [30, 30])
    prompts[1]["prompt"] = [1 + i % 200 for i in range(128 * 8)]
    model.generate(prompts, batch_size=2)
    alone = log.index(1)
    assert 7 <= alone <= 10 and log[:alone] == [0] * alone
    assert log[alone : alone + 10] == [1, 0] * 5 or log[alone : alone + 10] == [0, 1] * 5


def test_never_more_than_batch_size(model: Model) -> None:
    class Spy:
        def __init__(self, engine) -> None:
            self._engine, self.most, self.calls = engine, 0, 0

        def __getattr__(self, name: str):
            value = getattr(self._engine, name)
            if not name.endswith("_batch"):
                return value

            def call(tokens, *rest):
                self.most = max(self.most, len(tokens))
                self.calls += 1
                return value(tokens, *rest)

            return call

    for options in ({"temperature": 0}, {"seed": 1}, {"seed": 1, "top_p": 1.0}):
        stream = model.generate(prompts_of(13), 10, batch_size=3, stream=True, **options)
        stream._batch._engine = spy = Spy(stream._batch._engine)
        list(stream)
        assert spy.most == 3 and spy.calls >= 13 * 10 / 3 / 16
        assert len(stream._batch._spare_states) <= 2 * 3


def test_less_room_than_places(model: Model) -> None:
    """A device without room for more states goes on with those that it has; without room for any it says so."""

    class Small:
        def __init__(self, engine, room: int) -> None:
            self._engine, self.room = engine, room

        def __getattr__(self, name: str):
            return getattr(self._engine, name)

        def new_state(self):
            if not self.room:
                raise DeviceError("no room")
            self.room -= 1
            return self._engine.new_state()

    whole = tokens(model.generate(prompts_of(7), 10, seed=1))
    for room in (2, 5, 6):
        stream = model.generate(prompts_of(7), 10, seed=1, stream=True)
        stream._batch._engine = Small(stream._batch._engine, room)
        assert tokens(stream.read()) == whole
        assert stream._batch._places == room // 2
    stream = model.generate(prompts_of(2), 10, stream=True)
    stream._batch._engine = Small(stream._batch._engine, 1)
    with pytest.raises(DeviceError, match="no room"):
        stream.read()


def test_progress_counts_all_prompts(model: Model) -> None:
    calls: list[tuple[int, int]] = []
    prompts = prompts_of(8)
    model.generate(prompts, 5, batch_size=2, progress=lambda done, total: calls.append((done, total)))
    total = sum(len(model.tokenizer.encode(p)) for p in prompts)
    assert calls[-1] == (total, total) and calls == sorted(set(calls)) and len(calls) > 4


def test_default_batch_size(model: Model) -> None:
    assert default_batch_size(model) == 32


# -------------------------------------------------------------------------------------------------------------- stopping


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 1}], ids=["greedy", "sampled"])
def test_stops_of_each_prompt(model: Model, options: dict) -> None:
    """Stop strings and tokens, seen in the middle of a greedy burst or a step."""
    prompts = ["hello", "a fox", "hat", "time"]
    free = [model.generate(p, 40, logit_bias=BAN_END, **({"seed": 1 + i} if "seed" in options else options)) for i, p in enumerate(prompts)]
    stops = [free[0].tokens[11], free[1].text[15:18], [free[2].text[4], "never \x00"], ()]
    results = model.generate([{"prompt": p, "stop": s} for p, s in zip(prompts, stops, strict=True)], 40, logit_bias=BAN_END, **options)
    for i, (result, stop) in enumerate(zip(results, stops, strict=True)):
        alone = model.generate(prompts[i], 40, stop=stop, logit_bias=BAN_END, **({"seed": 1 + i} if "seed" in options else options))
        assert (result.tokens, result.text, result.stop, result.finish_reason) == (
            alone.tokens, alone.text, alone.stop, alone.finish_reason)  # fmt: skip
    assert [r.finish_reason for r in results] == ["stop"] * 3 + ["length"]


def test_end_of_text(model: Model) -> None:
    results = model.generate(["a", {"prompt": "b", "logit_bias": {0: 1000.0}}, "c"], 8, temperature=0)
    assert results[1].tokens == [] and results[1].stop == 0 and results[1].finish_reason == "stop"
    assert results[0].tokens == model.generate("a", 8, temperature=0).tokens


# --------------------------------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 1}], ids=["greedy", "sampled"])
def test_stream_is_the_same_texts(model: Model, options: dict) -> None:
    prompts = prompts_of(7)
    whole = model.generate(prompts, 30, batch_size=3, **options)
    stream = model.generate(prompts, 30, batch_size=3, stream=True, **options)
    assert len(stream) == 7
    with pytest.raises(RwkvError, match="prompt 0 is still running"):
        _ = stream.results
    texts, finished = [""] * 7, set()
    for index, piece in stream:
        assert piece and index not in finished
        texts[index] += piece
        for i in range(7):
            if stream.is_finished(i) and i not in finished and i != index:
                finished.add(i)
                assert stream.result(i).text == whole[i].text
    assert texts == [r.text for r in whole] == [r.text for r in stream.results]
    assert tokens(stream.results) == tokens(whole)
    assert len(finished) >= 3  # some were over before the others
    assert list(stream) == []


def test_close_early(model: Model) -> None:
    whole = model.generate(["a", "b", "c"], 200, seed=1, logit_bias=BAN_END)
    with model.generate(["a", "b", "c"], 200, seed=1, logit_bias=BAN_END, stream=True, batch_size=2) as stream:
        for _, _piece in zip(range(9), stream, strict=False):
            pass
    assert [r.finish_reason for r in stream.results] == ["cancelled"] * 3
    for result, full in zip(stream.results, whole, strict=True):
        assert result.tokens == full.tokens[: len(result.tokens)]
        assert result.text == model.tokenizer.decode(result.tokens)
    assert stream.results[0].tokens and stream.results[2].tokens == []  # it had not entered
    assert list(stream) == []
    untouched = model.generate(["a", "b"], 5, stream=True)
    untouched.close()
    assert tokens(untouched.results) == [[], []]


class Interrupt(Sampler):
    """Ctrl-C at the n-th token."""

    def __init__(self, n: int) -> None:
        self._left = n

    def accept(self, token: int) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


def test_interrupted(model: Model) -> None:
    prompts = [{"prompt": "a", "seed": 1}, {"prompt": "b", "samplers": [TopK(5), Interrupt(9)]}, {"prompt": "c", "seed": 3}]
    stream = model.generate(prompts, 50, logit_bias=None, stream=True)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    results = stream.results
    assert results[1].finish_reason == "cancelled" and len(results[1].tokens) == 8
    for prompt, result in zip("abc", results, strict=True):
        assert result.text == model.tokenizer.decode(result.tokens)
        _, expected = model.forward([*model.tokenizer.encode(prompt), *result.tokens])
        np.testing.assert_allclose(result.state.numpy()[0].wkv, expected.numpy()[0].wkv, rtol=1e-4, atol=1e-5)


class Fails(Sampler):
    def apply(self, candidates: Candidates) -> Candidates:
        raise RwkvError("no")


def test_an_error_names_its_prompt(model: Model) -> None:
    with pytest.raises(RwkvError) as error:
        model.generate(["a", {"prompt": "b", "samplers": [Fails(), Greedy()]}], 5)
    assert "prompt 1" in error.value.__notes__[0]


# ------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(("prompts", "options", "sentence"), [
    (["a", ""], {}, "prompt 1: .*empty"),
    (["a", []], {}, "prompt 1: .*at least one token"),
    ([[1], [1, N_VOCAB]], {}, "prompt 1: .*token 1 of 2"),
    (["a", 5], {}, "prompt 1: .*in a list of prompts"),
    (["a", None], {}, "prompt 1: "),
    ([{"text": "a"}], {}, "prompt 0: .*unknown option 'text'"),
    ([{"prompt": "a", "temprature": 1}], {}, "prompt 0: .*unknown option 'temprature'"),
    ([{"seed": 1}], {}, "prompt 0: .*'prompt' is missing"),
    ([{"prompt": "a", "seed": -1}], {}, "prompt 0: .*seed"),
    ([{"prompt": "a", "max_tokens": 1.5}], {}, "prompt 0: .*max_tokens"),
    (["a", {"prompt": "a", "top_p": 7}], {}, "prompt 1: .*top_p"),
    (["a", {"prompt": "a", "state": "x"}], {}, "prompt 1: .*expected a State"),
    (["a"], {"samplers": [Greedy()]}, "each prompt needs its own"),
    (["a", {"prompt": "a", "samplers": [Greedy()], "top_k": 2}], {}, "prompt 1: .*not both"),
    (["a"], {"batch_size": 0}, "batch_size"),
    (["a"], {"batch_size": 2.5}, "batch_size"),
    (["a"], {"seed": "x"}, "seed"),
    ("a", {"batch_size": 2}, "batch_size"),
    ([], {}, "at least one token"),
])  # fmt: skip
def test_bad_input_is_refused_before_anything_runs(model: Model, prompts: list, options: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        model.generate(prompts, stream=True, **options)


def test_samplers_are_not_shared(model: Model) -> None:
    shared = TopK(4)
    with pytest.raises(InputError, match="prompt 1: samplers: one of them is prompt 0's too"):
        model.generate([{"prompt": p, "samplers": [shared]} for p in "ab"])


# --------------------------------------------------------------------------------------------------------- forward_batch


def test_forward_batch(model: Model) -> None:
    _, start = model.forward([9, 8])
    sequences = [[5, 9, 200, 7], 3, np.arange(1, 150), (4, 4)]
    states = [None, start, start, None]
    logits, ends = model.forward_batch(sequences, states)
    assert logits.shape == (4, N_VOCAB) and logits.dtype == np.float32 and all(isinstance(s, State) for s in ends)
    for i, (own, state) in enumerate(zip(sequences, states, strict=True)):
        expected, end = model.forward(own, state)
        np.testing.assert_allclose(logits[i], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(ends[i].numpy()[1].wkv, end.numpy()[1].wkv, rtol=1e-4, atol=1e-5)
    again, _ = model.forward_batch(sequences, states)
    assert np.array_equal(logits, again), "forward_batch changed a state that it was given"
    fresh, _ = model.forward_batch(np.array([[1, 2], [3, 4]]))
    np.testing.assert_allclose(fresh[1], model.forward([3, 4])[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("arguments", "sentence"), [
    (([],), "at least one sequence"),
    (("ab",), "got str"),
    ((5,), "got int"),
    (([[1], []],), "sequence 1: .*at least one token"),
    (([[1], [2, N_VOCAB]],), "sequence 1: .*token 1 of 2"),
    (([[1], [2]], [None]), "2 states, one for each sequence, got 1"),
    (([[1], [2]], [None, "x"]), "sequence 1: .*expected a State"),
])  # fmt: skip
def test_forward_batch_bad_input(model: Model, arguments: tuple, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        model.forward_batch(*arguments)


def test_forward_reports_progress(model: Model) -> None:
    calls: list[tuple[int, int]] = []
    model.forward(np.ones(300, np.int32), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(128, 300), (256, 300), (300, 300)]
    calls.clear()
    model.forward_batch([np.ones(100, np.int32)] * 3, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(128, 300), (256, 300), (300, 300)]


def test_closed_model(tmp_path) -> None:
    synthetic.make_model(tmp_path / "m.gguf")
    model = Model(tmp_path / "m.gguf", "cpu")
    model.close()
    for use in (lambda: model.forward_batch([[1]]), lambda: model.generate(["x"])):
        with pytest.raises(RwkvError, match="is closed"):
            use()
