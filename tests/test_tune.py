"""`rwkvnative tune`: how it chooses (on a made-up engine), what it stores, and a real run on a software GPU. No time is asserted."""

from __future__ import annotations

import itertools
import json
import os
import threading
import warnings

import numpy as np
import pytest
import synthetic
import webgpu_devices
from typer.testing import CliRunner

from rwkvnative import Model
from rwkvnative.bench import tuner, tuning_cache
from rwkvnative.bench.subject import file_subject, random_subject
from rwkvnative.bench.tuner import Choice, combine, tune
from rwkvnative.bench.tuning_cache import TuningWarning, apply_cached, entry_path, identity, load, store
from rwkvnative.cli import app
from rwkvnative.errors import DeviceError, InputError

KEY = {"version": 1, "backend": "webgpu", "device": "GPU", "driver": "1.0", "kernels": "77", "model": "abc", "numerics": "auto"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A user's cache directory of its own, and nothing warned of yet."""
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *args, **kwargs: str(tmp_path / "cache"))
    monkeypatch.setattr(tuning_cache, "_warned", set())
    monkeypatch.delenv("RWKVNATIVE_WEBGPU_TUNING", raising=False)
    return tmp_path / "cache"


class FakeEngine:
    """Two kinds of ops, `a` and `b`; variant x=1 is fast on a, x=2 on b, "slow" on neither; "whole=1" is of the whole model."""

    info = {"backend": "webgpu", "n_vocab": 50, "prefill_rows": 4, "device_name": "GPU", "driver": "1.0"}
    kernels_id = "77"
    us = {("a", "x=1"): 5.0, ("a", "x=2"): 20.0, ("b", "x=2"): 3.0, ("b", "x=1"): 9.9}
    wrong: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    whole_us = 0.0

    def __init__(self):
        self.text = ""

    def tuning_variants(self):
        return ["x=1", "x=2", "slow", "whole=1"]

    def prefill_choices(self):
        return []

    def set_tuning(self, text):
        if ":whole=1" in text or "bad" in text:
            raise InputError(f"unknown {text}")
        self.text = text

    def constants(self, phase, label):
        for part in self.text.split(";"):
            if part.startswith(f"{phase}/{label}:"):
                return part.split(":")[1]
        return self.text.split(";")[0] if ":" not in self.text else ""

    def new_state(self):
        return None

    def forward(self, tokens, state_in, state_out, rows):
        if any(v in self.text for v in self.failing):
            raise DeviceError("does not compile")
        return np.full(50, np.nan if any(v in self.text for v in self.wrong) else 1.0, np.float32)

    def profile(self, rows, sequences, repeats, warm):
        phase = "decode" if rows == 1 else "many"
        times = {label: self.us.get((label, self.constants(phase, label)), 10.0) for label in ("a", "b")}
        step = sum(times.values()) + (self.whole_us if "whole=1" in self.text else 0.0)
        return {"ops": [{"label": label, "microseconds": t} for label, t in times.items()], "step_seconds": step * 1e-6}


# ---- choosing ----


def test_each_kind_gets_its_own_best():
    engine = FakeEngine()
    engine.whole_us = 100.0
    got = tune(engine)
    assert got.text == "decode/a:x=1;decode/b:x=2;many/a:x=1;many/b:x=2" == engine.text
    assert got.phases[0].choices == [Choice("a", "x=1", 10.0, 5.0), Choice("b", "x=2", 10.0, 3.0)]
    assert got.phases[0].default_seconds == pytest.approx(20e-6) and got.phases[0].seconds == pytest.approx(8e-6)
    assert got.discarded == []


def test_a_variant_of_the_whole_model_is_taken_only_if_the_step_is_faster():
    engine = FakeEngine()
    engine.whole_us = -2.0
    assert tune(engine, rows=[1]).text == "whole=1;decode/a:x=1;decode/b:x=2"


def test_what_is_hardly_faster_is_not_taken():
    engine = FakeEngine()
    engine.us = {("a", "x=1"): 9.9}
    engine.whole_us = 100.0
    got = tune(engine)
    assert got.text == "" and got.phases[0].choices == []


@pytest.mark.parametrize("name", ["wrong", "failing"])
def test_a_variant_that_fails_or_mismatches_is_discarded_with_a_warning(name):
    engine = FakeEngine()
    engine.whole_us = 100.0
    setattr(engine, name, ("x=1",))
    with pytest.warns(TuningWarning, match="x=1 is discarded") as caught:
        got = tune(engine)
    assert len(caught) == 1  # not again for the other phase
    assert [variant for variant, _ in got.discarded] == ["x=1"]
    assert got.text == "decode/b:x=2;many/b:x=2"


def test_choices_that_together_mismatch_leave_the_default():
    engine = FakeEngine()
    engine.whole_us = 100.0
    engine.wrong = ("a:x=1;",)
    with pytest.warns(TuningWarning):
        got = tune(engine)
    assert got.text == "" and engine.text == ""


def test_combining_choices():
    assert combine("decode", [Choice("linear x", "workgroup=64,lanes=8", 1, 1), Choice("wkv7", "wkv_groups=4", 1, 1)]) == (
        "decode/linear x:workgroup=64,lanes=8;decode/wkv7:wkv_groups=4")


# ---- the cache ----


def test_an_entry_comes_back(cache):
    assert load(KEY) is None
    path = store(KEY, "workgroup=64", {})
    assert path == entry_path(KEY) and path.is_relative_to(cache) and load(KEY) == "workgroup=64"
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no drafts


@pytest.mark.parametrize("name", ["backend", "device", "model", "numerics"])
def test_another_model_or_device_has_another_entry(name):
    store(KEY, "workgroup=64", {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(KEY | {name: "another"}) is None


@pytest.mark.parametrize("name", ["driver", "kernels", "version"])
def test_a_stale_entry_is_ignored_with_one_warning_and_replaced(name):
    store(KEY | {name: "older"}, "workgroup=64", {})
    with pytest.warns(TuningWarning, match=f"another {name}") as caught:
        assert load(KEY) is None and load(KEY) is None
    assert len(caught) == 1
    store(KEY, "workgroup=128", {})
    assert load(KEY) == "workgroup=128" and len(list(entry_path(KEY).parent.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"tuning": 5, "key": {}}', b'{"tuning": "x"}', b"null"])
def test_a_damaged_entry_is_ignored_with_one_warning_and_replaced(content):
    path = store(KEY, "workgroup=64", {})
    path.write_bytes(content)
    with pytest.warns(TuningWarning, match="damaged") as caught:
        assert load(KEY) is None and load(KEY) is None
    assert len(caught) == 1
    store(KEY, "workgroup=64", {})
    assert load(KEY) == "workgroup=64"


def test_an_interrupted_write_leaves_the_old_entry(monkeypatch):
    path = store(KEY, "workgroup=64", {})

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        store(KEY, "workgroup=128", {})
    assert load(KEY) == "workgroup=64" and len(list(path.parent.iterdir())) == 1


def test_readers_see_whole_entries_while_another_writes():
    texts = ["workgroup=64", "workgroup=128," * 2000]
    store(KEY, texts[0], {})
    stop = threading.Event()

    def write():
        while not stop.is_set():
            for text in texts:
                store(KEY, text, {})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert all(load(KEY) in texts for _ in range(300))
    finally:
        stop.set()
        writer.join()


def test_applying_what_is_stored(monkeypatch):
    engine = FakeEngine()
    assert apply_cached(engine, KEY) == "" and engine.text == ""
    store(KEY, "x=1", {})
    assert apply_cached(engine, KEY) == "x=1" == engine.text
    store(KEY, "bad", {})
    with pytest.warns(TuningWarning, match="cannot be used"):
        assert apply_cached(engine, KEY) == ""
    engine = FakeEngine()
    store(KEY, "x=1", {})
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_TUNING", "workgroup=64")
    assert apply_cached(engine, KEY) == "" == engine.text


# ---- on devices ----


def test_a_tuned_model_is_loaded_tuned(tmp_path, monkeypatch):
    """A real device: the choice is made, stored, and used by the next load, with the same logits."""
    device = webgpu_devices.require("llvmpipe")
    path = tmp_path / "tiny.gguf"
    synthetic.make_model(path, n_layer=1, n_vocab=300)
    faster = itertools.count(0, -1)  # whatever is measured next is faster: all that is tried is taken
    measured = tuner._times
    monkeypatch.setattr(tuner, "_times", lambda *args: dict.fromkeys(measured(*args), 100 + 10 * next(faster)))
    monkeypatch.setattr(tuner, "_step_seconds", lambda *args: 100 + 10 * next(faster))
    monkeypatch.setattr("rwkvnative.bench.tuner._ROUNDS", 1)

    def choose(engine):
        return tune(engine, variants=["workgroup=64,lanes=4", "norm_workgroup=64"], rows=[1], repeats=1, warm_seconds=0.0)

    monkeypatch.setattr("rwkvnative.bench.tuner.tune", choose)
    tokens = [1, 2, 3]
    with Model(path, device) as model:
        expected = [model.forward(t)[0] for t in tokens]
    with Model(path, device, tune=True) as model:
        tuned = [model.forward(t)[0] for t in tokens]
        key = identity(model._engine, model.config, [(t.name, t.ggml_type, t.shape_ne, 0, 0) for t in model._gguf.tensors.values()], "auto")
    text = load(key)
    assert text is not None and "decode/" in text and ("workgroup=64,lanes=4" in text or "norm_workgroup=64" in text)
    np.testing.assert_allclose(tuned, expected, atol=0.05 * np.std(expected))
    seen = []
    monkeypatch.setattr("rwkvnative.bench.tuning_cache.load", lambda k: seen.append(k) or text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Model(path, device) as model:
            np.testing.assert_array_equal([model.forward(t)[0] for t in tokens], tuned)
    assert seen == [key]


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, cache):
    """The command says so before it tunes; a model is tuned all the same."""
    cache.write_text("a file where the folder should be")
    device = webgpu_devices.require("llvmpipe")
    path = tmp_path / "tiny.gguf"
    synthetic.make_model(path, n_layer=1, n_vocab=300)
    monkeypatch.setattr("rwkvnative.bench.tuner.tune", lambda engine, **_: pytest.fail("it was tuned in vain"))
    got = CliRunner().invoke(app, ["tune", "-m", str(path), "--device", device])
    assert got.exit_code == 2 and "cannot make this folder" in got.stderr
    monkeypatch.setattr("rwkvnative.bench.tuner.tune", lambda engine: tuner.Tuning("workgroup=64", [], []))
    with pytest.warns(TuningWarning, match="later ones will not be: .*cannot make this folder"), Model(path, device, tune=True) as model:
        assert model.n_vocab == 300


def test_the_command_tunes_and_stores(tmp_path, monkeypatch, cache):
    device = webgpu_devices.require("llvmpipe")
    monkeypatch.setattr("rwkvnative.bench.tuner.tune", lambda engine, **_: tune(engine, variants=["unroll=2", "rows=9"], rows=[1], repeats=1, warm_seconds=0))
    monkeypatch.setattr("rwkvnative.bench.tuner._ROUNDS", 1)
    path = tmp_path / "tiny.gguf"
    synthetic.make_model(path, n_layer=1, n_vocab=300)
    got = CliRunner().invoke(app, ["tune", "-m", str(path), "--device", device, "--warm", "0", "--json"])
    assert got.exit_code == 0, got.stderr
    document = json.loads(got.stdout)
    assert [variant for variant, _ in document["discarded"]] == ["rows=9"] and "rows=9 is discarded" in got.stderr
    assert document["path"].startswith(str(cache)) and document["phases"][0]["name"] == "decode"
    subject = file_subject(path, device, None, "auto")
    assert subject.tuning == document["tuning"]
    subject.close()


def test_constants_of_single_kinds(monkeypatch):
    """The syntax: what may differ by kind, and what may not."""
    device = webgpu_devices.require("llvmpipe")
    subject = random_subject("tiny:f32", device, None, "auto")
    for text in ("", "workgroup=64", "decode/linear x:workgroup=64,lanes=8", "workgroup=64;many/head:rows=2;decode/wkv7:wkv_groups=2"):
        subject.engine.set_tuning(text)
    for text in ("workgroup=33", "decode/head:tile=4", "decode/head:fuse=0", "what=1", "workgroup", "decode/x:int8=0", "experiment=3"):
        with pytest.raises(InputError, match="RWKVNATIVE_WEBGPU_TUNING"):
            subject.engine.set_tuning(text)
    assert len(set(subject.engine.tuning_variants())) == len(subject.engine.tuning_variants()) > 30
    for text in subject.engine.tuning_variants():
        subject.engine.set_tuning(text)
    subject.close()
