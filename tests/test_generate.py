"""Model.generate: the loop, stop strings, streaming, seeds, states, interruption; and the text assembly beneath it."""

from __future__ import annotations

import copy
import json
import pickle
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import synthetic
import webgpu_devices
from hypothesis import given
from hypothesis import strategies as st

from rwkvnative import InputError, Model, RwkvError
from rwkvnative.gguf_file import GgufFile
from rwkvnative.sampling import Candidates, Greedy, Sampler, SamplerChain, SamplingParams, TopK
from rwkvnative.streaming import StopFinder

N_VOCAB = 3000  # more than the longest list of candidates that a device makes, so such lists are in use


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    synthetic.make_model(path, n_vocab=N_VOCAB)
    return Model(path, "cpu", n_threads=2, numerics="f32")


def naive(model: Model, prompt: list[int], n: int, params: SamplingParams, seed: int) -> list[int]:
    """The same text through the public forward(), one token at a time, with all logits read."""
    chain = SamplerChain(params.samplers(), seed)
    chain.start(prompt, model.n_vocab)
    logits, state = model.forward(prompt)
    tokens: list[int] = []
    for _ in range(n):

        def fetch(k: int, bias: tuple[np.ndarray, np.ndarray] | None, logits: np.ndarray = logits) -> Candidates:
            biased = logits.copy()
            if bias is not None:
                biased[bias[0]] += bias[1]
            return Candidates.from_logits(biased)

        token = chain.next_token(fetch, model.n_vocab)
        if token == model.tokenizer.eos_id:
            break
        tokens.append(token)
        logits, state = model.forward(token, state)
    return tokens


PARAMS = {
    "greedy": {"temperature": 0.0},
    "default": {},
    "pure": {"top_p": 1.0},
    "penalties": {"presence_penalty": 0.5, "frequency_penalty": 0.5, "penalty_decay": 0.99, "repeat_penalty": 1.1},
    "greedy with penalties": {"temperature": 0.0, "presence_penalty": 2.0},
    "mirostat": {"mirostat": True},
    "typical": {"typical_p": 0.6, "top_p": 1.0},
}


@pytest.mark.parametrize("name", PARAMS)
def test_generate_is_forward_and_sampling(model: Model, name: str) -> None:
    prompt = model.tokenizer.encode("hello world")
    result = model.generate("hello world", 40, seed=5, **PARAMS[name])
    assert result.tokens == naive(model, prompt, 40, SamplingParams(**PARAMS[name]), 5)
    assert result.raw_text == model.tokenizer.decode(result.tokens)
    assert str(result) == result.text
    assert result.timings.prompt_tokens == len(prompt) and result.timings.generated_tokens == len(result.tokens)
    assert result.seed == (None if name == "greedy" else 5)


def test_same_seed_same_text(model: Model) -> None:
    first = model.generate("hello", 30, seed=3)
    assert model.generate("hello", 30, seed=3).tokens == first.tokens
    assert model.generate("hello", 30, seed=4).tokens != first.tokens
    drawn = model.generate("hello", 30)
    assert model.generate("hello", 30, seed=drawn.seed).tokens == drawn.tokens
    assert model.generate(model.tokenizer.encode("hello"), 30, seed=3).tokens == first.tokens
    assert model.generate(b"hello", 30, seed=3).tokens == first.tokens


def test_long_prompts_are_read_in_parts(model: Model) -> None:
    prompt = np.random.default_rng(0).integers(1, N_VOCAB, 1100).tolist()
    calls: list[tuple[int, int]] = []
    result = model.generate(prompt, 5, temperature=0, progress=lambda done, total: calls.append((done, total)))
    assert result.tokens == naive(model, prompt, 5, SamplingParams(temperature=0), 0)
    assert len(calls) >= 2 and calls[-1] == (1099, 1099) and calls == sorted(calls)


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 1}], ids=["greedy", "sampled"])
def test_the_state_of_a_result_goes_on(model: Model, options: dict) -> None:
    prompt = model.tokenizer.encode("hello world")
    result = model.generate(prompt, 25, **options)
    _, expected = model.forward([*prompt, *result.tokens])
    for got, want in zip(result.state.numpy(), expected.numpy(), strict=True):
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    both = model.generate([*prompt, *result.tokens, 100, 101], 20, temperature=0)
    resumed = model.generate([100, 101], 20, temperature=0, state=result.state)
    assert resumed.tokens == both.tokens


def test_a_given_state_is_not_changed(model: Model) -> None:
    _, state = model.forward([5, 6, 7])
    before = state.numpy()
    for options in ({"temperature": 0}, {"seed": 1}):
        model.generate("hello", 10, state=state, **options)
    for a, b in zip(before, state.numpy(), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_max_tokens(model: Model) -> None:
    for options in ({"temperature": 0}, {"seed": 1}):
        result = model.generate("hello", 7, logit_bias={0: -float("inf")}, **options)
        assert len(result.tokens) == 7 and result.finish_reason == "length" and result.stop is None
    nothing = model.generate("hello", 0)
    assert nothing.tokens == [] and nothing.text == "" and nothing.finish_reason == "length"
    _, expected = model.forward(model.tokenizer.encode("hello"))
    np.testing.assert_allclose(nothing.state.numpy()[1].att_shift, expected.numpy()[1].att_shift, rtol=1e-4, atol=1e-5)


# ---- stopping ----


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 1}], ids=["greedy", "sampled"])
def test_stop_token(model: Model, options: dict) -> None:
    tokens = model.generate("hello", 40, **options).tokens
    stop = tokens[20]
    end = tokens.index(stop)
    result = model.generate("hello", 40, stop=stop, **options)
    assert result.tokens == tokens[:end]
    assert result.finish_reason == "stop" and result.stop == stop
    _, expected = model.forward([*model.tokenizer.encode("hello"), *tokens[:end]])
    np.testing.assert_allclose(result.state.numpy()[0].wkv, expected.numpy()[0].wkv, rtol=1e-4, atol=1e-5)


def test_end_of_text_always_stops(model: Model) -> None:
    result = model.generate("hello", 40, logit_bias={0: 1000.0})
    assert result.tokens == [] and result.finish_reason == "stop" and result.stop == 0


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 1}, {"seed": 2}], ids=["greedy", "seed 1", "seed 2"])
def test_stop_text(model: Model, options: dict) -> None:
    free = model.generate("hello", 60, **options)
    middle = len(free.text) // 2
    for length in (1, 3, 8):
        stop = free.text[middle : middle + length]
        result = model.generate("hello", 60, stop=["never seen \x00", stop], **options)
        assert result.text == free.text[: free.text.index(stop)]
        assert result.finish_reason == "stop" and result.stop == stop
        assert result.tokens == free.tokens[: len(result.tokens)] and len(result.tokens) < 60
        assert stop in result.raw_text and stop not in model.tokenizer.decode(result.tokens[:-1])
        stream = model.generate("hello", 60, stop=stop, stream=True, **options)
        assert "".join(stream) == result.text, "a stop string, or a part of one, was shown"
        _, expected = model.forward([*model.tokenizer.encode("hello"), *result.tokens])
        np.testing.assert_allclose(result.state.numpy()[0].wkv, expected.numpy()[0].wkv, rtol=1e-4, atol=1e-5)


def naive_stop(text: str, stops: list[str]) -> tuple[str, str | None]:
    """Read character by character; end where a stop string is first complete, the longest of those."""
    for end in range(1, len(text) + 1):
        complete = [s for s in stops if text[:end].endswith(s)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(
    pieces=st.lists(st.text("ab\n", max_size=5), max_size=20),
    stops=st.lists(st.text("ab\n", min_size=1, max_size=5), min_size=1, max_size=4),
)
def test_stop_finder(pieces: list[str], stops: list[str]) -> None:
    finder = StopFinder(stops)
    shown = ""
    text = ""
    for piece in pieces:
        text += piece
        shown += finder.push(piece)
        expected, found = naive_stop(text, stops)
        assert finder.found == found
        if found is not None:
            break
        held = text[len(shown) :]
        assert text.startswith(shown)
        assert held == max((text[-n:] for n in range(1, len(text) + 1) if any(s.startswith(text[-n:]) and s != text[-n:] for s in stops)),
                           key=len, default=""), "exactly what may become a stop string is held back"  # fmt: skip
    if finder.found is None:
        shown += finder.flush()
    assert shown == naive_stop(text, stops)[0]


# ---- streaming ----


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 1}], ids=["greedy", "sampled"])
def test_stream_is_the_same_text(model: Model, options: dict) -> None:
    whole = model.generate("hello", 80, **options)
    stream = model.generate("hello", 80, stream=True, **options)
    with pytest.raises(RwkvError, match="still running"):
        _ = stream.result
    pieces = list(stream)
    assert len(pieces) > 2 and all(pieces)
    assert "".join(pieces) == whole.text == stream.result.text
    assert stream.result.tokens == whole.tokens and stream.result.finish_reason == whole.finish_reason
    assert list(stream) == []


class Spell(Sampler):
    """Makes the model say given bytes, one byte per token."""

    def __init__(self, data: bytes) -> None:
        self._left = list(data)

    def bias(self) -> tuple[np.ndarray, np.ndarray]:
        token = self._left[0] + 1 if self._left else 0  # in a World vocabulary byte b is token b + 1
        return np.array([token], np.int32), np.array([1e5], np.float32)

    def accept(self, token: int) -> None:
        self._left = self._left[1:]


def test_stream_never_splits_a_character(model: Model) -> None:
    text = "naïve 你好 🙂🚀 end"
    stream = model.generate("x", 100, samplers=[Spell(text.encode()), Greedy()], stream=True)
    pieces = list(stream)
    assert pieces == list(text), "each character came whole, as soon as its last byte was there"
    assert stream.result.finish_reason == "stop" and stream.result.stop == 0


def test_bytes_that_are_no_character(model: Model) -> None:
    data = b"a\xff\xe4\xbdb\xf0\x9f\x99"
    result = model.generate("x", 100, samplers=[Spell(data), Greedy()])
    assert result.text == data.decode("utf-8", "replace")
    assert model.tokenizer.decode_bytes(result.tokens) == data


def test_close_early(model: Model) -> None:
    for options in ({"temperature": 0}, {"seed": 1}):
        whole = model.generate("hello", 200, **options)
        with model.generate("hello", 200, stream=True, **options) as stream:
            for _, _piece in zip(range(3), stream):
                pass
        result = stream.result
        assert result.finish_reason == "cancelled"
        assert 3 <= len(result.tokens) < 200 and result.tokens == whole.tokens[: len(result.tokens)]
        assert result.text == model.tokenizer.decode(result.tokens)
        _, expected = model.forward([*model.tokenizer.encode("hello"), *result.tokens])
        np.testing.assert_allclose(result.state.numpy()[0].wkv, expected.numpy()[0].wkv, rtol=1e-4, atol=1e-5)
        assert list(stream) == []
        stream.close()
    untouched = model.generate("hello", 10, stream=True)
    untouched.close()
    assert untouched.result.tokens == [] and untouched.result.finish_reason == "cancelled"


class Interrupt(Sampler):
    """Ctrl-C at the n-th token."""

    def __init__(self, n: int) -> None:
        self._left = n

    def accept(self, token: int) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


def check_interrupted(model: Model, stream) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    result = stream.result
    assert result.finish_reason == "cancelled"
    assert result.text == model.tokenizer.decode(result.tokens)
    _, expected = model.forward([*model.tokenizer.encode("hello"), *result.tokens])
    np.testing.assert_allclose(result.state.numpy()[0].wkv, expected.numpy()[0].wkv, rtol=1e-4, atol=1e-5)


def test_interrupted_while_sampling(model: Model) -> None:
    stream = model.generate("hello", 50, samplers=[TopK(5), Interrupt(9)], seed=0, stream=True)
    check_interrupted(model, stream)
    assert len(stream.result.tokens) == 8


def test_interrupted_on_the_device(model: Model) -> None:
    stream = model.generate("hello", 50, temperature=0, stop="never seen \x00", stream=True)
    push, left = stream._run.assembler.push, [9]

    def push_or_interrupt(token: int) -> bool:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return push(token)

    stream._run.assembler.push = push_or_interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    result = stream.result
    assert len(result.tokens) == 9 and result.finish_reason == "cancelled"
    _, expected = model.forward([*model.tokenizer.encode("hello"), *result.tokens])
    np.testing.assert_allclose(result.state.numpy()[0].wkv, expected.numpy()[0].wkv, rtol=1e-4, atol=1e-5)


def test_interrupted_while_reading_the_prompt(model: Model) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    stream = model.generate([1] * 600, 5, progress=interrupt, stream=True)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    assert stream.result.tokens == []


# ---- threads ----


def test_threads_do_not_disturb_each_other(model: Model) -> None:
    options = [{"seed": i} for i in range(3)] + [{"temperature": 0}]
    alone = [model.generate("hello", 40, **o).tokens for o in options]
    together: list[list[int]] = [[] for _ in options]

    def work(i: int) -> None:
        together[i] = model.generate("hello", 40, **options[i]).tokens

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(options))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


@pytest.mark.parametrize("prompt", [[1] * 2000, [[1] * 2000, [2] * 2000]], ids=["one", "batch"])
def test_a_stream_is_closed_while_it_is_read(model: Model, prompt: list) -> None:
    """By another thread, and by a callback of its own: it ends before the next step, and nothing else is disturbed."""
    reads: list[tuple[int, int]] = []

    def close(done: int, total: int) -> None:
        reads.append((done, total))
        if elsewhere:
            thread = threading.Thread(target=stream.close)
            thread.start()
            thread.join()
        else:
            stream.close()

    for elsewhere in (True, False):
        reads.clear()
        stream = model.generate(prompt, 5, progress=close, stream=True)
        assert list(stream) == []
        assert len(reads) == 1 and reads[0][0] < reads[0][1], "it must not read the whole prompt first"
        results = stream.results if isinstance(prompt[0], list) else [stream.result]
        assert all(r.finish_reason == "cancelled" and r.tokens == [] for r in results)
        stream.close()


@pytest.mark.parametrize("prompt", [[1] * 2000, [[1] * 2000]], ids=["one", "batch"])
def test_a_stream_has_one_reader(model: Model, prompt: list) -> None:
    def read_too(done: int, total: int) -> None:
        with pytest.raises(RwkvError, match="is being read already"):
            next(stream)
        seen.append(done)

    seen: list[int] = []
    stream = model.generate(prompt, 1, progress=read_too, stream=True, temperature=0)
    assert len(list(stream)) == 1 and len(seen) > 0


def test_results_and_states_are_pickled(model: Model) -> None:
    result = model.generate("hello", 6, seed=1)
    again = pickle.loads(pickle.dumps(result))
    assert again == result and again.raw_text == result.raw_text and again.timings == result.timings
    with pytest.raises(RwkvError, match="pickled has no state"):
        _ = again.state
    state = pickle.loads(pickle.dumps(result.state))
    assert model.generate(" world", 6, seed=1, state=state).tokens == model.generate(" world", 6, seed=1, state=result.state).tokens
    for cannot in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"open it in each process with Model\("):
            cannot(model)


# ---- bad input ----

BAD = [
    ({"prompt": ""}, "prompt is empty"),
    ({"prompt": b""}, "prompt is empty"),
    ({"prompt": []}, "at least one token"),
    ({"prompt": [1, N_VOCAB]}, f"token 1 of 2: expected an id from 0 to {N_VOCAB - 1}, got {N_VOCAB}"),
    ({"prompt": [-1]}, "got -1"),
    ({"prompt": [1.5]}, "whole numbers"),
    ({"prompt": None}, "a token id or a sequence of them, got NoneType"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 2.5}, "max_tokens"),
    ({"seed": -1}, "seed"),
    ({"seed": "x"}, "seed"),
    ({"stop": ""}, "empty string"),
    ({"stop": [""]}, "empty string"),
    ({"stop": [N_VOCAB]}, "stop"),
    ({"stop": [1.5]}, "stop"),
    ({"stop": {"a": 1}}, "stop"),
    ({"temperature": float("nan")}, "temperature"),
    ({"logit_bias": {N_VOCAB: 1.0}}, "logit_bias"),
    ({"state": "x"}, "expected a State"),
    ({"samplers": [1]}, "samplers"),
    ({"samplers": [], "top_k": 5}, "not both"),
]


@pytest.mark.parametrize(("options", "sentence"), BAD, ids=[str(o) for o, _ in BAD])
def test_bad_input_is_refused_before_anything_runs(model: Model, options: dict, sentence: str) -> None:
    arguments = {"prompt": "hello", "stream": True} | options
    with pytest.raises(InputError, match=sentence):
        model.generate(**arguments)


def test_unknown_parameter(model: Model) -> None:
    with pytest.raises(TypeError, match="temprature"):
        model.generate("hello", temprature=0.5)  # type: ignore[call-overload]


def test_embed(model: Model) -> None:
    a, b = model.embed("hello world"), model.embed("hello world!")
    assert a.shape == (model.n_embd,) and a.dtype == np.float32
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-5) and not np.allclose(a, b)
    raw = model.embed("hello world", normalize=False)
    np.testing.assert_allclose(raw / np.linalg.norm(raw), a, rtol=1e-5, atol=1e-6)
    _, state = model.forward(model.tokenizer.encode("hello"))
    np.testing.assert_allclose(model.embed(" world", state), a, rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="empty"):
        model.embed("")


@pytest.mark.parametrize(("value", "finite"), [(np.nan, False), (np.inf, False), (3e38, True)])
def test_embed_of_extreme_weights(tmp_path: Path, value: float, finite: bool) -> None:
    """The square of 3e38 is past float32."""
    synthetic.make_model(tmp_path / "m.gguf", n_layer=1)
    with GgufFile(tmp_path / "m.gguf") as file, open(tmp_path / "m.gguf", "r+b") as out:
        out.seek(file.tensors["output_norm.bias"].offset)
        out.write(np.float32(value).tobytes())
    model = Model(tmp_path / "m.gguf", "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if finite:
            assert np.linalg.norm(model.embed("a")) == pytest.approx(1)
        else:
            with pytest.raises(RwkvError, match="not finite"):
                model.embed("a")


@pytest.mark.parametrize("where", ["cpu", "llvmpipe"])
def test_greedy_text_of_a_damaged_model(tmp_path: Path, where: str) -> None:
    """It is not an empty one: the device's choice among numbers that are none is no token. From the first step on, or later."""
    device = where if where == "cpu" else webgpu_devices.require(where)
    path = tmp_path / "m.gguf"
    synthetic.make_model(path, n_layer=1)
    with Model(path, device) as model:
        tokens = model.generate("hello", 12, temperature=0).tokens
        assert len(tokens) == 12 and len(set(tokens[:5])) == 5 and not set(tokens[:5]) & set(model.tokenizer.encode("hello"))

    def damaged(tensor: str, at: int, value: float) -> Model:
        with GgufFile(path) as file:
            data = bytearray(file.data)
            at = file.tensors[tensor].offset + 4 * at
        data[at : at + 4] = np.float32(value).tobytes()
        (tmp_path / "damaged.gguf").write_bytes(data)
        return Model(tmp_path / "damaged.gguf", device)

    places = (("output_norm.bias", 0, np.nan, 0), ("output_norm.bias", 0, np.inf, 0), ("token_embd.weight", tokens[4] * 64, np.nan, 5))
    for tensor, at, value, n in places:
        with damaged(tensor, at, value) as model:
            assert model.generate("hello", n, temperature=0).tokens == tokens[:n]
            for options in ({}, {"stop": "never"}, {"prompt": ["hello", "hello"]}, {"stream": True}):
                with pytest.raises(RwkvError, match="not all finite"):
                    list(model.generate(**{"prompt": "hello", "max_tokens": 12, "temperature": 0} | options))
            stream = model.generate("hello", 12, temperature=0, stream=True)
            with pytest.raises(RwkvError):
                list(stream)
            read, expected = stream.result.state.numpy()[0], model.generate("hello", n, temperature=0).state.numpy()[0]
            for got, wanted in zip(read, expected, strict=True):  # no token is read twice
                np.testing.assert_allclose(got, wanted, rtol=1e-2, atol=1e-3)
        (tmp_path / "damaged.gguf").unlink()


def test_embed_is_what_the_head_reads(model: Model, tmp_path: Path) -> None:
    """logits = W_output hidden, by the contract; the head is the file's own."""
    ids = model.tokenizer.encode("hello world")
    head = model._gguf.to_numpy("output.weight").astype(np.float64)
    logits, _ = model.forward(ids)
    np.testing.assert_allclose(head @ model.embed(ids, normalize=False), logits, rtol=1e-4, atol=1e-3)


def test_closed_model(tmp_path: Path) -> None:
    synthetic.make_model(tmp_path / "m.gguf")
    with Model(tmp_path / "m.gguf", "cpu") as model:
        assert "on cpu" in repr(model)
        model.forward(1)
    assert "closed" in repr(model)
    for use in (lambda: model.forward(1), lambda: model.generate("x"), lambda: model.new_state(), lambda: model.embed("x")):
        with pytest.raises(RwkvError, match="is closed"):
            use()
    model.close()


def test_facts(model: Model) -> None:
    info = model.info
    assert info["architecture"] == model.arch == "rwkv7" and info["name"] == model.name == "synthetic"
    assert info["n_vocab"] == model.n_vocab == N_VOCAB and info["n_embd"] == model.n_embd == 64
    assert model.n_layer == 2 and model.n_head * model.head_size == model.n_embd
    assert info["device"] == model.device == "cpu" and info["n_threads"] == model.n_threads == 2
    assert info["state_bytes"] == model.new_state().nbytes and info["tensor_types"] == {"F32": len(model._gguf.tensors)}
    assert model.metadata["general.name"] == "synthetic" and len(model.metadata["tokenizer.ggml.tokens"]) == N_VOCAB
    assert "synthetic" in repr(model) and "2 layers x 64" in repr(model)
    json.dumps(info)


def test_forward_shapes_and_states(model: Model) -> None:
    tokens = [5, 9, 200, 7]
    rows, state = model.forward(tokens, all_logits=True)
    assert rows.shape == (4, N_VOCAB) and rows.dtype == np.float32
    last, _ = model.forward(np.array(tokens, np.uint16))
    assert last.shape == (N_VOCAB,)
    np.testing.assert_allclose(last, rows[-1], rtol=1e-4, atol=1e-4)
    _, before = model.forward(tokens[:3])
    one, after = model.forward(tokens[3], before)
    np.testing.assert_allclose(one, rows[-1], rtol=1e-4, atol=1e-4)
    again, _ = model.forward(tokens[3], before)
    assert np.array_equal(one, again), "forward changed the state that it was given"
    np.testing.assert_allclose(after.numpy()[1].wkv, state.numpy()[1].wkv, rtol=1e-4, atol=1e-5)
    for bad in ([], [[1, 2]], "text", [True], [2**40], [2**70], {1}, np.array([1.0])):
        with pytest.raises(InputError, match=r"\[tokens\]"):
            model.forward(bad)  # type: ignore[arg-type]


def test_model_arguments(tmp_path: Path) -> None:
    synthetic.make_model(tmp_path / "m.gguf")
    for arguments, sentence in (
        ({"path": 5}, "path"),
        ({"device": ""}, "device"),
        ({"device": 3}, "device"),
        ({"device": "no-such-device"}, "no-such-device"),
        ({"n_threads": 0}, "n_threads"),
        ({"n_threads": 1.5}, "n_threads"),
        ({"n_threads": 10**9}, "n_threads"),
        ({"numerics": "f64"}, "numerics"),
    ):
        with pytest.raises(RwkvError, match=sentence):
            Model(**{"path": tmp_path / "m.gguf"} | arguments)
