"""Arguments that no caller should give: each is refused with one sentence, as an RwkvError, whatever it is."""

from __future__ import annotations

import copy
import itertools
import math
import os
import pickle
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic

from rwkvnative import FileError, InputError, Model, State, quantize_file
from rwkvnative.files import NewFile
from rwkvnative.sampling import Greedy

HUGE = 10**400


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("bad") / "tiny.gguf"
    synthetic.make_model(path, n_layer=1, n_vocab=300)
    return Model(path, "cpu")


class Bytes:
    def __fspath__(self) -> bytes:
        return b"/no/such/file"


def generate(**options: Any) -> Callable[[Model], object]:
    return lambda model: model.generate("hello", **{"max_tokens": 1, **options})


def without(tensor: str) -> Callable[[Model], object]:
    def load(model: Model) -> None:
        made = synthetic.build_model(n_layer=1, n_vocab=300)
        del made.tensors[tensor]
        with tempfile.TemporaryDirectory() as folder:
            synthetic.write_model(path := Path(folder) / "lacking.gguf", made)
            with pytest.raises(FileError) as error:  # as Model's docstring has it
                Model(path, "cpu")
        raise error.value

    return load


BAD: list[tuple[str, Callable[[Model], object], str]] = [
    ("path of bytes", lambda m: Model(Bytes(), "cpu"), "no such file"),
    ("no path", lambda m: Model("", "cpu"), "path: expected a path, got ''"),
    ("NUL in a path", lambda m: Model("a\0b", "cpu"), "expected a path"),
    ("threads", lambda m: Model(m.path, "cpu", HUGE), "n_threads: expected a whole number >= 1 and <= 1024"),
    ("progress of a model", lambda m: Model(m.path, "cpu", progress=5), "progress: expected a function"),
    ("memory of 5000 digits", lambda m: Model(m.path, "cpu", max_device_memory="9" * 5000), "max_device_memory"),
    ("memory of 400 digits", lambda m: Model(m.path, "cpu", max_device_memory="9" * 400 + ".5"), "max_device_memory"),
    ("temperature", generate(temperature=HUGE), "temperature: expected a finite number"),
    ("temperature of nothing", generate(temperature=1e-300), "temperature: expected a number >= 1e-30, got 1e-300"),
    ("penalty past all logits", generate(repeat_penalty=1e308), r"repeat_penalty: expected a number >= 1e-06 and <= 1e\+06"),
    ("top_p", generate(top_p=-HUGE), "top_p: expected a finite number >= 0 and <= 1, got -inf"),
    ("top_k", generate(top_k=HUGE), "top_k: expected a whole number >= 0 and <= 2147483647, got a number of 1329 bits"),
    ("repeat_last_n", generate(repeat_penalty=1.1, repeat_last_n=1 << 40), "repeat_last_n"),
    ("tau", generate(mirostat=True, mirostat_tau=HUGE), "mirostat_tau"),
    ("bias of a token", generate(logit_bias={5: HUGE}), "logit_bias"),
    ("token of a bias", generate(logit_bias={HUGE: 1}), "logit_bias key"),
    ("token of a bias past the vocabulary", generate(logit_bias={300: 1}), "logit_bias key: expected a whole number >= 0 and <= 299"),
    ("mirostat of an array", generate(mirostat=np.array([1, 2])), "mirostat: expected True, False, or the version 2"),
    ("top_p of an array, with mirostat", generate(mirostat=True, top_p=np.array([1, 2])), "top_p: expected a number"),
    ("a generator of prompts", lambda m: m.generate(p for p in "ab"), "expected a token id or a sequence of them, got generator"),
    ("a set for tokens", lambda m: m.forward({1}), "expected a token id or a sequence of them, got set"),
    ("texts to embed", lambda m: m.embed(["a", "b"]), r"\[prompt\] expected one text, or a sequence of token ids, got a list of texts"),
    ("texts within a prompt", lambda m: m.generate([{"prompt": ["a"]}]), "prompt 0: .* expected one text"),
    ("a number for a batch", lambda m: m.forward_batch(np.array(5)), "expected a list with the tokens of each sequence, got ndarray"),
    ("a device that a terminal obeys", lambda m: Model(m.path, "\x1b[2J"), r"device name such as 'auto' or 'cpu', got '\\x1b\[2J'"),
    ("a file that lacks a tensor", without("blk.0.time_mix_key.weight"), r"^\[model\] .*lacking.gguf: .*blk.0.time_mix_key.weight.* missing"),
    ("a device that is no text", lambda m: Model(m.path, "\ud800"), "device name such as"),
    ("a path that is no text", lambda m: Model("\ud800", "cpu"), r"path: expected a path, got '\\ud800'"),
    ("a state's path that is no text", lambda m: m.new_state().save("\ud800"), "expected a path"),
    ("a name that a terminal obeys", lambda m: Model("a\x1b[2J\nb", "cpu"), r"\[gguf\] a\\x1b\[2J\\nb: no such file"),
    ("a folder that a terminal obeys", lambda m: m.new_state().save("a\x1b[2J/b"), r"\[state\] a\\x1b\[2J/b: .*no such folder: .*\\x1b\[2J$"),
    ("a name that is too long", lambda m: quantize_file(m.path, "x" * 300, "f16", lambda *_: 1 / 0), "File name too long"),
    ("stop of bytes", generate(stop=b"\n"), r"\[generate\] stop: expected text, a token id, or a list of them, got bytes"),
    ("samplers", generate(samplers=5), "samplers: expected a list"),
    ("a sampler alone", generate(samplers=Greedy()), "samplers: expected a list"),
    ("an iterator of samplers", generate(samplers=iter([Greedy()])), "samplers: expected a list"),
    ("progress", generate(progress=5), r"\[generate\] progress: expected a function or None, got 5 \(int\)"),
    ("progress of a batch", lambda m: m.generate(["a", "b"], 1, progress=5), r"\[generate\] progress"),
    ("max_tokens", generate(max_tokens=-1), r"\[generate\] max_tokens"),
    ("bytes for tokens", lambda m: m.forward(bytearray(b"hi")), "encode text"),
    ("progress of forward", lambda m: m.forward(1, progress=5), r"\[model\] progress"),
    ("progress of forward_batch", lambda m: m.forward_batch([[1]], progress=5), r"\[model\] progress"),
    ("think", lambda m: m.chat([{"role": "user", "content": "hi"}], 1, think="no"), "think: expected True or False"),
    ("think of a session", lambda m: m.chat_session(think=1), "think: expected True or False"),
    ("a state's path", lambda m: m.new_state().save(None), r"\[state\]: expected a path, got NoneType"),
    ("a state's path with NUL", lambda m: m.new_state().save("a\0b"), "expected a path"),
    ("a state to read", lambda m: State.load(5), r"\[state\]: expected a path, got int"),
    ("no layers", lambda m: State.from_numpy(None, m), "expected 1 layers"),
    ("a layer of None", lambda m: State.from_numpy([None], m), "layer 0: expected att_shift, ffn_shift, wkv, got NoneType"),
    ("numbers past float", lambda m: State.from_numpy([([HUGE], [1], [1])], m), "layer 0, att_shift: expected numbers"),
    ("complex numbers", lambda m: State.from_numpy([([1j], [1], [1])], m), "complex"),
    ("no model", lambda m: State.from_numpy(m.new_state().numpy(), None), "model: expected a Model, got NoneType"),
    ("source", lambda m: quantize_file(5, "x", "q8_0"), r"\[quantize\] source: expected a path, got int"),
    ("target", lambda m: quantize_file(m.path, None, "q8_0"), r"\[quantize\] target: expected a path, got NoneType"),
    ("threads of quantize", lambda m: quantize_file(m.path, "x", "q8_0", n_threads=-1), r"\[quantize\] n_threads"),
    ("progress of quantize", lambda m: quantize_file(m.path, "x", "q8_0", 5), r"\[quantize\] progress"),
    ("a prompt past the batch", lambda m: m.generate(["a", "b"], 1, stream=True).result(2), "index of a prompt: expected a whole number >= 0 and <= 1"),
    ("a prompt of no number", lambda m: m.generate(["a", "b"], 1, stream=True).is_finished("a"), "index of a prompt"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "sentence"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_arguments(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Model], object], sentence: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, FileError), match=sentence):
        call(model)
    assert not list(tmp_path.iterdir()), "nothing may be left behind"


def test_what_is_odd_but_right(model: Model) -> None:
    plain = model.generate("hello", 4, seed=1).tokens
    assert model.generate(bytearray(b"hello"), 4, seed=np.int64(1)).tokens == plain, "bytes of a prompt are text, not token ids"
    assert model.generate("hello", 4, seed=1, top_k=2**31 - 1, logit_bias={0: np.float32(-math.inf)}).seed == 1
    assert Model(model.path, "cpu", np.int64(1)).n_threads == 1
    assert len(model.generate("hello", HUGE, seed=1, stop="e").tokens) > 0
    assert model.generate("hello", 4, seed=1, stop=np.int64(plain[1])).tokens == plain[: plain.index(plain[1])]
    assert Model(model.path, "cpu", max_device_memory=np.int64(1 << 40)).info["max_device_memory"] == 1 << 40
    tokenizer = pickle.loads(pickle.dumps(copy.deepcopy(model.tokenizer)))
    assert tokenizer.encode("hello wörld") == model.tokenizer.encode("hello wörld")


def test_extreme_parameters_overflow_nowhere(model: Model) -> None:
    """At the ends of what is taken: a text comes out, and numpy has nothing to warn of."""
    ends = {
        "temperature": (0, 1e-30, 1e308), "top_k": (1, 299, 2**31 - 1), "top_p": (0, 5e-324, 1 - 1e-16), "min_p": (5e-324, 1),
        "typical_p": (5e-324, 1), "presence_penalty": (-1e6, 1e6), "frequency_penalty": (-1e6, 1e6), "repeat_penalty": (1e-6, 1e6),
    }  # fmt: skip
    rng = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(150):
            options = {name: rng.choice(values).item() for name, values in ends.items() if rng.random() < 0.4}
            if isinstance(options.get("top_k"), float):
                options["top_k"] = int(options["top_k"])
            bias = {i: -math.inf for i in range(299)} if seed % 5 == 0 else {7: 1e6} if seed % 5 == 1 else None
            tokens = model.generate("hello", 4, seed=seed, logit_bias=bias, **options).tokens
            assert seed % 5 or set(tokens) == {299}
            assert (seed + 4) % 5 or options or set(tokens) == {7}
        for tau, eta, temperature in itertools.product((5e-324, 1e308), (5e-324, 1e308), (1e-30, 1e308)):
            model.generate("hello", 4, seed=1, mirostat=True, mirostat_tau=tau, mirostat_eta=eta, temperature=temperature)


# ---- files ----


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with NewFile(path, "[x]") as file:
        file.write(b"one")
        assert not path.exists() and file.n_bytes == 3
    with pytest.raises(ZeroDivisionError), NewFile(path, "[x]") as file:
        file.write(b"two")
        raise ZeroDivisionError
    with pytest.raises(OSError, match="of the block's own"), NewFile(path, "[x]") as file:
        raise OSError("of the block's own")  # as a callback's may be: not taken for a failure to write
    assert path.read_bytes() == b"one" and os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in folders, and asks for a right to make links")
def test_links_are_followed_and_devices_left_alone(model: Model, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    model.new_state().save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").stat().st_size > 0
    os.mkfifo(tmp_path / "pipe")
    for write in (model.new_state().save, lambda path: quantize_file(model.path, path, "f16")):
        with pytest.raises(FileError, match="pipe: cannot write: expected the path of a file to write, got a device, pipe or socket"):
            write(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo() and sorted(os.listdir(tmp_path)) == ["link", "pipe", "real"]
    with pytest.raises(FileError, match="no such folder"):
        model.new_state().save(tmp_path / "no" / "x")


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a folder that is in use")
def test_a_working_directory_that_is_gone(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for use in (lambda: model.new_state().save("x"), lambda: quantize_file(model.path, "x", "f16"), lambda: Model("x", "cpu"),
                lambda: quantize_file("x", tmp_path / "y", "f16"), lambda: State.load("x")):  # fmt: skip
        with pytest.raises(FileError, match="x: (cannot write: N|n)o such file"):
            use()


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="file names are text there")
def test_a_name_that_is_no_text(model: Model, tmp_path: Path) -> None:
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff.gguf"))
    with open(model.path, "rb") as source, open(path, "wb") as target:
        target.write(source.read())
    with Model(path, "cpu") as copied:
        assert copied.generate("hello", 2, temperature=0).tokens == model.generate("hello", 2, temperature=0).tokens
        copied.new_state().save(path + ".state")
        assert State.load(path + ".state", copied).nbytes == copied.new_state().nbytes
