"""The length of a prompt's chunks: what the tuner takes (on a made-up engine), and that engines do as told. No time is asserted."""

from __future__ import annotations

import itertools
import json
import warnings

import numpy as np
import pytest
import synthetic
import webgpu_devices
from engines import config, open_engine, random_tokens
from rwkvnative import Model, _core
from rwkvnative.bench import chunk_tuner, tuning_cache
from rwkvnative.bench.chunk_tuner import time_chunks
from rwkvnative.bench.subject import file_subject
from rwkvnative.bench.tuner import tune
from rwkvnative.bench.tuning_cache import TuningWarning, apply_cached, store
from rwkvnative.cli import app
from rwkvnative.errors import DeviceError, InputError
from typer.testing import CliRunner

KEY = {"version": 1, "backend": "cpu", "device": "CPU", "driver": "", "kernels": "", "model": "abc", "numerics": "auto"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A user's cache directory of its own, and nothing warned of yet."""
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *args, **kwargs: str(tmp_path / "cache"))
    monkeypatch.setattr(tuning_cache, "_warned", set())
    for backend in ("WEBGPU", "METAL", "CPU"):
        monkeypatch.delenv(f"RWKVNATIVE_{backend}_TUNING", raising=False)
    return tmp_path / "cache"


# ---- choosing ----


class FakeEngine:
    """Reads a prompt at `rates` tokens/s by chunk length; 12 is the default. Has nothing else to tune."""

    kernels_id = ""

    def __init__(self, rates: dict[int, float], wrong: tuple[int, ...] = (), failing: tuple[int, ...] = ()):
        self.rates, self.wrong, self.failing = rates, wrong, failing
        self.text, self.rows, self.read = "", 12, []

    @property
    def info(self):
        return {"backend": "cpu", "n_vocab": 50, "prefill_rows": self.rows, "scratch_bytes": 1000 * self.rows}

    def tuning_variants(self):
        return []

    def prefill_choices(self):
        return sorted(set(self.rates) - {12})

    def set_tuning(self, text):
        rows = int(text.split("prefill_rows=")[1].split(";")[0]) if "prefill_rows=" in text else 12
        if rows in self.failing:
            raise DeviceError("no room")
        self.text, self.rows = text, rows


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time of a FakeEngine; real engines are timed as ever."""
    measured = chunk_tuner._read

    def read(engine, tokens):
        if not isinstance(engine, FakeEngine):
            return measured(engine, tokens)
        engine.read.append((engine.rows, len(tokens)))
        logits = np.full(50, 1.0 + (engine.rows in engine.wrong) + 0.1 * len(tokens), np.float32)
        return len(tokens) / engine.rates[engine.rows], logits

    monkeypatch.setattr(chunk_tuner, "_read", read)
    monkeypatch.setattr(chunk_tuner, "_ROUND_SECONDS", 0.0)


def test_the_fastest_length_is_taken():
    engine = FakeEngine({12: 100, 8: 99, 16: 110, 32: 130, 64: 50})
    got = tune(engine)
    assert got.text == "prefill_rows=32" == engine.text and engine.rows == 32
    assert [(c.rows, round(c.tokens_per_second, 6), c.scratch_bytes, c.is_default, c.taken) for c in got.chunks] == [
        (8, 99, 8000, False, False), (12, 100, 12000, True, False), (16, 110, 16000, False, False), (32, 130, 32000, False, True),
        (64, 50, 64000, False, False)]  # fmt: skip
    timed = {rows: [n for r, n in engine.read if r == rows] for rows in engine.rates}
    assert set(timed[12]) == {64, 60, 24}  # references for all, and whole chunks
    assert timed[64] == [64, 64] and timed[16] == [32, 64] and len(timed[32]) == 6  # the slow ones meet one round


def test_what_is_hardly_faster_or_slower_is_not_taken():
    engine = FakeEngine({12: 100, 16: 102, 8: 98})
    assert tune(engine).text == "" == engine.text and engine.rows == 12


@pytest.mark.parametrize("how", ["wrong", "failing"])
def test_a_length_that_fails_or_mismatches_is_discarded_with_a_warning(how):
    engine = FakeEngine({12: 100, 16: 120, 32: 1000}, **{how: (32,)})
    with pytest.warns(TuningWarning, match="prefill_rows=32 is discarded") as caught:
        got = tune(engine)
    assert len(caught) == 1 and [v for v, _ in got.discarded] == ["prefill_rows=32"]
    assert got.text == "prefill_rows=16" and [c.rows for c in got.chunks] == [12, 16]


def test_a_length_goes_with_the_other_constants():
    engine = FakeEngine({12: 100, 16: 120})
    discarded: dict[str, str] = {}
    timed = time_chunks(engine, "lanes=4;decode/x:lanes=8", [16], discarded)
    assert engine.text in ("lanes=4;decode/x:lanes=8;prefill_rows=16", "lanes=4;decode/x:lanes=8")
    assert [c.rows for c in timed if c.taken] == [16] and not discarded


# ---- the cache ----


def test_a_length_without_room_leaves_the_rest_of_what_is_stored():
    engine = FakeEngine({12: 100, 16: 1}, failing=(32,))
    store(KEY, "lanes=4;prefill_rows=32;decode/x:lanes=8", {})
    with pytest.warns(TuningWarning, match="chunk length stored in .* cannot be used and is ignored: no room"):
        assert apply_cached(engine, KEY) == "lanes=4;decode/x:lanes=8" == engine.text
    store(KEY, "lanes=4;prefill_rows=16", {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert apply_cached(engine, KEY) == "lanes=4;prefill_rows=16" == engine.text


# ---- on devices ----


def in_chunks(engine: _core.Engine, tokens: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """How many chunks a prompt took; logits [V] and the state's values after it."""
    calls: list[int] = []
    state = engine.new_state()
    logits = engine.forward(tokens, None, state, "last", lambda done, total: calls.append(done))
    return len(calls), logits, np.concatenate([v.ravel() for v in state.read().values()])


@pytest.mark.parametrize("name", ["cpu", "llvmpipe"])
def test_any_length_gives_the_same_results(name):
    # The software GPU's compiler is slow: few lengths, few tokens, and the matrices' simplest kernels.
    device, lengths, n_tokens, kind = ("cpu", [1, 16, 33, 64, 256], 300, "Q8_0") if name == "cpu" else (
        webgpu_devices.require(name), [8, 32], 60, "F32")
    engine = open_engine(synthetic.build_model(n_layer=1, n_vocab=300, type=kind), device)
    usual = engine.info["prefill_rows"]
    tokens = random_tokens(n_tokens, 300, seed=3)
    n_usual, logits, state = in_chunks(engine, tokens)
    assert n_usual == -(-n_tokens // usual) and usual == 128
    scratch = {usual: engine.info["scratch_bytes"]}
    for rows in lengths:
        engine.set_tuning(f"prefill_rows={rows}")
        assert engine.info["prefill_rows"] == rows and engine.info["max_batch"] == usual
        n, got, got_state = in_chunks(engine, tokens)
        assert n == -(-len(tokens) // rows)
        # float32: sums in another order
        np.testing.assert_allclose(got, logits, atol=1e-4 * np.abs(logits).max())
        np.testing.assert_allclose(got_state, state, atol=1e-4 * np.abs(state).max())
        scratch[rows] = engine.info["scratch_bytes"]
    rows_of_all = engine.forward(tokens, None, engine.new_state(), "all")  # as many at a time as ever
    np.testing.assert_allclose(rows_of_all[-1], logits, atol=1e-4 * np.abs(logits).max())
    longer = [scratch[rows] for rows in sorted(scratch) if rows >= 128 or name != "cpu"]  # the CPU keeps memory for a crowd
    assert all(1.5 * a < b for a, b in itertools.pairwise(longer)) and engine.prefill_choices()[-3:] == [128, 256, 512]
    engine.set_tuning("")
    assert engine.info["prefill_rows"] == usual
    again = in_chunks(engine, tokens)
    assert again[0] == n_usual and np.array_equal(again[1], logits) and np.array_equal(again[2], state)


def test_the_environment_goes_first(monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_CPU_TUNING", "prefill_rows=48")
    engine = open_engine(synthetic.build_model(n_layer=1, n_vocab=300))
    assert engine.info["prefill_rows"] == 48 and in_chunks(engine, random_tokens(100, 300))[0] == 3
    store(KEY, "prefill_rows=64", {})
    assert apply_cached(engine, KEY) == "" and engine.info["prefill_rows"] == 48
    monkeypatch.setenv("RWKVNATIVE_CPU_TUNING", "rows=4")
    with pytest.raises(InputError, match=r"\[cpu\] RWKVNATIVE_CPU_TUNING: expected prefill_rows=number, got \"rows=4\""):
        open_engine(synthetic.build_model(n_layer=1, n_vocab=300))


def test_a_crowd_may_be_larger_than_a_chunk():
    engine = open_engine(synthetic.build_model(n_layer=1, n_vocab=300))
    tokens = [random_tokens(1, 300, seed=i) for i in range(40)]

    def crowd() -> tuple[int, np.ndarray]:
        calls: list[int] = []
        states = [engine.new_state() for _ in tokens]
        logits = engine.forward_batch(tokens, [None] * 40, states, "last", lambda done, total: calls.append(done))
        return len(calls), logits

    n, expected = crowd()
    engine.set_tuning("prefill_rows=16")
    assert n == 1 == crowd()[0]
    np.testing.assert_array_equal(crowd()[1], expected)
    assert engine.greedy_batch([1] * 40, [engine.new_state() for _ in range(40)], 2).shape == (2, 40)


@pytest.mark.parametrize("text", ["prefill_rows=4097", "prefill_rows=-1", "prefill_rows=", "prefill_rows=8x", "prefill_rows", "rows=8"])
@pytest.mark.parametrize("name", ["cpu", "llvmpipe"])
def test_bad_lengths_are_refused(name, text):
    device = "cpu" if name == "cpu" else webgpu_devices.require(name)
    engine = open_engine(synthetic.build_model(n_layer=1, n_vocab=300), device)
    before = engine.info["prefill_rows"]
    if name == "llvmpipe" and text == "rows=8":
        text = "prefill_row=8"  # there is a constant of that name
    with pytest.raises(InputError, match=r"\[(cpu|webgpu)\] RWKVNATIVE_(CPU|WEBGPU)_TUNING: "):
        engine.set_tuning(text)
    assert engine.info["prefill_rows"] == before


def test_the_memory_of_a_chunk_is_bounded():
    """A layer of 600000 activations (of zeros, and never read): 256 rows of them are 614 MB, 512 would be 1.2 GB."""
    model = synthetic.build_model(n_layer=1, n_vocab=300, type="F32")
    entries, data = model.packed()
    wide, n = [], data.size
    for name, kind, shape, offset, n_bytes in entries:
        if name in ("blk.0.channel_mix_key.weight", "blk.0.channel_mix_value.weight"):
            offset, n_bytes, n = n, 4 * 64 * 600_000, n + 4 * 64 * 600_000
            shape = tuple(600_000 if ne == model.shape.n_ff else ne for ne in shape)
        wide.append((name, kind, shape, offset, n_bytes))
    assert n > data.size and model.shape.n_embd == 64
    engine = _core.Engine("rwkv7", config(model) | {"n_ff": 600_000}, wide, np.zeros(n, np.uint8), "cpu", 2, "f32", None)
    assert engine.info["prefill_rows"] == 128 and engine.prefill_choices() == [32, 64, 128, 256]


def test_what_a_device_has_no_room_for_is_not_offered_and_refused(monkeypatch):
    """A device with just the memory for the usual chunk: kernels that are stored with a longer one are used without it."""
    device = webgpu_devices.require("llvmpipe")
    model = synthetic.build_model(n_layer=1, n_vocab=300, type="F32")
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_MEMORY", "4000000")
    engine = open_engine(model, device)
    assert engine.info["streamed_bytes"] == 0 and engine.info["prefill_rows"] == 128
    most = max(engine.prefill_choices())
    assert 128 <= most < 4096
    with pytest.raises(DeviceError, match="prefill_rows=4096: a chunk of so many tokens needs"):
        engine.set_tuning("prefill_rows=4096")
    assert engine.info["prefill_rows"] == 128
    key = KEY | {"backend": "webgpu"}
    store(key, "unroll=2;prefill_rows=4096", {})
    with pytest.warns(TuningWarning, match="chunk length stored in"):
        assert apply_cached(engine, key) == "unroll=2"
    store(key, f"unroll=2;prefill_rows={most}", {})
    assert apply_cached(engine, key) == f"unroll=2;prefill_rows={most}" and engine.info["prefill_rows"] == most


@pytest.mark.parametrize("name", ["cpu", "llvmpipe"])
def test_where_layers_stream_the_budget_has_chosen(name, tmp_path):
    device = "cpu" if name == "cpu" else webgpu_devices.require(name)
    path = tmp_path / "model.gguf"
    synthetic.make_model(path, n_layer=4, n_vocab=3000, type="F32")
    whole = path.stat().st_size
    budget = str(round((0.7 if name == "cpu" else 0.8) * whole))
    engine = file_subject(path, device, None, "f32", None, budget).engine
    rows = engine.info["prefill_rows"]
    assert engine.info["streamed_bytes"] > 0
    assert engine.prefill_choices() == []
    engine.set_tuning("prefill_rows=24")
    assert engine.info["prefill_rows"] == rows != 24
    with pytest.raises(InputError, match="nothing to tune"):
        tune(engine, variants=[])


def test_a_model_is_loaded_with_the_length_that_was_found(tmp_path, monkeypatch, cache):
    """The CPU, whose time is made up: the choice is stored, and used by the next load and by the command."""
    path = tmp_path / "tiny.gguf"
    synthetic.make_model(path, n_layer=1, n_vocab=300)
    tokens = random_tokens(300, 300, seed=5)
    real = chunk_tuner._read

    def read(engine, ids):
        return (1.0 if engine.info["prefill_rows"] == 64 else 2.0) * len(ids), real(engine, ids)[1]

    with Model(path, "cpu") as model:
        assert model.info["prefill_rows"] == 128 and model.info["scratch_bytes"] > 0
        expected = model.forward(tokens)[0]
    assert not cache.exists()
    with monkeypatch.context() as patch:
        patch.setattr(chunk_tuner, "_read", read)
        with Model(path, "cpu", tune=True) as model:
            assert model.info["prefill_rows"] == 64
    entry = json.loads(next((cache / "tuning").iterdir()).read_text())
    assert entry["tuning"] == "prefill_rows=64" and entry["measured"]["chunks"]["64"]["scratch_bytes"] > 0
    with Model(path, "cpu") as model:
        assert model.info["prefill_rows"] == 64
        np.testing.assert_allclose(model.forward(tokens)[0], expected, atol=0.05 * np.std(expected))  # int8 codes may tip over
    with monkeypatch.context() as patch:
        patch.setattr(chunk_tuner, "_read", lambda engine, ids: (2.0 * len(ids) if engine.info["prefill_rows"] == 64 else 1.0 * len(ids), real(engine, ids)[1]))
        got = CliRunner().invoke(app, ["tune", "-m", str(path), "--device", "cpu", "--json"])
    document = json.loads(got.stdout)
    assert document["tuning"] == "" and [c["rows"] for c in document["chunks"]] == [32, 64, 128, 256, 512]
    with Model(path, "cpu") as model:
        assert model.info["prefill_rows"] == 128


def test_the_command_shows_lengths_and_their_memory(cache, monkeypatch):
    monkeypatch.setattr(chunk_tuner, "_ROUNDS", 1)
    got = CliRunner().invoke(app, ["tune", "--random", "tiny", "--device", "cpu"])
    assert got.exit_code == 0, got.stderr
    assert "scratch MiB" in got.stdout and "the default" in got.stdout and "512" in got.stdout
    got = CliRunner().invoke(app, ["tune", "--random", "tiny", "--device", "cpu", "--no-prompt"])
    assert got.exit_code == 2 and "the cpu backend has nothing to tune but for prompts" in got.stderr
