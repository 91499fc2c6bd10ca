"""State: copies, files and numpy, and every way in which a file can be the wrong one."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracle
import pytest
import synthetic
from safetensors.numpy import load_file, save_file

from rwkvnative import FileError, InputError, LayerState, Model, State

TOKENS = [5, 99, 7, 123, 42]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    synthetic.make_model(folder / "a.gguf", n_layer=3, n_embd=64, head_size=16)
    return Model(folder / "a.gguf", "cpu", numerics="f32")


@pytest.fixture(scope="module")
def other(folder: Path) -> Model:
    """Same sizes, other weights."""
    synthetic.make_model(folder / "b.gguf", n_layer=3, n_embd=64, head_size=16, seed=1)
    return Model(folder / "b.gguf", "cpu", numerics="f32")


@pytest.fixture()
def state(model: Model) -> State:
    return model.forward(TOKENS)[1]


def assert_same(a: State, b: State) -> None:
    for x, y in zip(a.numpy(), b.numpy(), strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(x, y, strict=True))


def test_shape_and_numpy(model: Model, state: State) -> None:
    layers = state.numpy()
    assert len(layers) == 3
    for layer in layers:
        assert isinstance(layer, LayerState)
        assert layer.att_shift.shape == layer.ffn_shift.shape == (64,) and layer.wkv.shape == (4, 16, 16)
        assert all(a.dtype == np.float32 and np.any(a != 0) for a in layer)
    assert state.nbytes == 4 * 3 * (64 + 64 + 4 * 16 * 16) == sum(a.nbytes for layer in layers for a in layer)
    assert model.name in repr(state) and "3 layers x 64" in repr(state)
    assert all(np.all(a == 0) for layer in model.new_state().numpy() for a in layer)


def test_numpy_round_trip_continues_the_same(model: Model, state: State) -> None:
    rebuilt = State.from_numpy(state.numpy(), model)
    assert_same(rebuilt, state)
    assert np.array_equal(model.forward(9, rebuilt)[0], model.forward(9, state)[0])
    assert not np.array_equal(model.forward(9)[0], model.forward(9, state)[0]), "the state must matter"


def test_numpy_is_a_copy(state: State) -> None:
    state.numpy()[0].wkv[:] = 7
    assert not np.any(state.numpy()[0].wkv == 7)


def test_numbers_are_those_of_the_paper(model: Model, state: State, folder: Path) -> None:
    """Names, layers, and rows of S (values) and columns (keys), as in the float64 oracle."""
    _, expected = oracle.Oracle(folder / "a.gguf").forward(TOKENS)
    for i, layer in enumerate(state.numpy()):
        for part in layer._fields:
            np.testing.assert_allclose(getattr(layer, part), expected[part][i], rtol=1e-3, atol=1e-4)


def test_copies_are_independent(model: Model, state: State) -> None:
    before = state.numpy()
    for duplicate in (state.copy(), copy.copy(state), copy.deepcopy(state)):
        assert_same(duplicate, state)
        model.forward(11, duplicate)
    assert_same(state, State.from_numpy(before, model))


@pytest.mark.parametrize("give_model", [True, False])
def test_file_round_trip(model: Model, state: State, tmp_path: Path, give_model: bool) -> None:
    path = tmp_path / "s.safetensors"
    state.save(path)
    loaded = State.load(path, model) if give_model else State.load(str(path))
    assert_same(loaded, state)
    assert loaded.fingerprint == model.fingerprint and model.name in repr(loaded)
    assert_same(loaded.copy(), state)
    assert np.array_equal(model.forward(9, loaded)[0], model.forward(9, state)[0])
    assert_same(loaded, state)
    loaded.save(tmp_path / "again.safetensors")
    assert_same(State.load(tmp_path / "again.safetensors", model), state)


def test_save_replaces_and_leaves_nothing_behind(model: Model, state: State, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    path.write_bytes(b"old")
    state.save(path)
    assert_same(State.load(path, model), state)
    assert os.listdir(tmp_path) == ["s.safetensors"]


def test_failed_save_keeps_the_old_file(model: Model, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.safetensors"
    path.write_bytes(b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left"):
        state.save(path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["s.safetensors"]
    with pytest.raises(FileError, match="cannot write"):
        state.save(tmp_path / "no" / "such" / "folder.st")


def test_a_saved_file_is_plain_safetensors(model: Model, state: State, tmp_path: Path) -> None:
    state.save(tmp_path / "s.st")
    arrays = load_file(tmp_path / "s.st")
    assert {k: v.shape for k, v in arrays.items()} == {"att_shift": (3, 64), "ffn_shift": (3, 64), "wkv": (3, 4, 16, 16)}
    assert np.array_equal(arrays["wkv"][2], state.numpy()[2].wkv)


# ---- another model ----


def test_another_model_is_refused(model: Model, other: Model, state: State, tmp_path: Path) -> None:
    state.save(tmp_path / "s.st")
    assert model.fingerprint != other.fingerprint
    with pytest.raises(InputError, match="another model"):
        State.load(tmp_path / "s.st", other)
    for wrong in (state, State.load(tmp_path / "s.st")):
        for use in (
            lambda s: other.forward(1, s),
            lambda s: other.generate("x", 1, state=s),
            lambda s: other.embed("x", s),
        ):
            with pytest.raises(InputError, match="another model.*fingerprint"):
                use(wrong)


def test_the_same_file_opened_twice_shares_states(model: Model, folder: Path, state: State) -> None:
    with Model(folder / "a.gguf", "cpu", numerics="f32") as twin:
        assert twin.fingerprint == model.fingerprint
        assert np.array_equal(twin.forward(9, state)[0], model.forward(9, state)[0])
        assert_same(state, model.forward(TOKENS)[1])


def test_fingerprint_sees_one_changed_weight(folder: Path, model: Model, tmp_path: Path) -> None:
    data = bytearray((folder / "a.gguf").read_bytes())
    info = model._gguf.tensors["blk.1.time_mix_key.weight"]
    data[info.offset] ^= 1
    (tmp_path / "c.gguf").write_bytes(data)
    with Model(tmp_path / "c.gguf", "cpu") as changed:
        assert changed.fingerprint != model.fingerprint


# ---- bad files ----


def good(state: State, path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    state.save(path)
    return load_file(path), {"format": "rwkvnative-state", "version": "1", "model": state.fingerprint, "model_name": "x"}


def refuse(path: Path, sentence: str) -> None:
    with pytest.raises(FileError, match=sentence) as caught:
        State.load(path)
    assert str(path) in str(caught.value)


def test_files_that_are_no_state(tmp_path: Path) -> None:
    refuse(tmp_path / "missing", "no such file")
    refuse(tmp_path, "directory")
    for name, content in {"empty": b"", "text": b"hello world", "huge": b"\xff" * 100}.items():
        (tmp_path / name).write_bytes(content)
        refuse(tmp_path / name, "not a state file, or a damaged one")
    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "foreign")
    refuse(tmp_path / "foreign", "not a state saved by rwkvnative")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in folders")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    """Opening one waits for a writer, and in the library that reads the file not even Ctrl-C ends that: in a process of its own."""
    os.mkfifo(tmp_path / "pipe")
    code = f"from rwkvnative import State; State.load({str(tmp_path / 'pipe')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert b"pipe: expected a state file, got a device, pipe or socket" in done.stderr


def test_every_truncation_is_refused(state: State, tmp_path: Path) -> None:
    state.save(tmp_path / "s.st")
    whole = (tmp_path / "s.st").read_bytes()
    for size in [*range(0, 200, 7), *range(200, len(whole), 997), len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:size])
        refuse(tmp_path / "cut", "not a state file, or a damaged one")


def test_wrong_contents(state: State, tmp_path: Path) -> None:
    path = tmp_path / "s.st"
    arrays, metadata = good(state, path)

    def expect(sentence: str, changed: dict[str, np.ndarray], keys: dict[str, str] = metadata) -> None:
        save_file(changed, path, keys)
        refuse(path, sentence)

    expect("'wkv' is missing", {k: v for k, v in arrays.items() if k != "wkv"})
    expect("expected float32", arrays | {"ffn_shift": arrays["ffn_shift"].astype(np.float64)})
    expect("'att_shift': expected float32", arrays | {"att_shift": arrays["att_shift"][:, :-1].copy()})
    expect("4 dimensions", arrays | {"wkv": arrays["wkv"].reshape(3, -1)})
    expect("'wkv': expected", arrays | {"wkv": arrays["wkv"][:, :, :-1].copy()})
    nan = arrays["wkv"].copy()
    nan[1, 2, 3, 4] = np.nan
    expect("NaN or infinity", arrays | {"wkv": nan})
    expect("version", arrays, metadata | {"version": "2"})
    for fingerprint in ({}, {"model": ""}, {"model": "0" * 63}, {"model": "\x1b[2J" + "0" * 60}):
        expect("expected a model's fingerprint", arrays, {k: v for k, v in metadata.items() if k != "model"} | fingerprint)
    expect("not a state saved by rwkvnative", arrays, metadata | {"format": "else"})
    for kind, size in (("BF16", 2), ("F8_E4M3", 1), ("F8_E5M2", 1)):  # numpy has no such types
        header: dict[str, object] = {"__metadata__": metadata}
        end = 0
        for name, array in arrays.items():
            header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [end, end := end + size * array.size]}
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
        refuse(path, f"'att_shift': expected float32, got {kind}")


def test_wrong_arrays(model: Model, state: State) -> None:
    layers = state.numpy()
    for changed, sentence in (
        (layers[:-1], "expected 3 layers"),
        ([layers[0], layers[1], layers[2][:2]], "layer 2: expected att_shift, ffn_shift, wkv, got 2 arrays"),
        ([layers[0]._replace(wkv=layers[0].wkv[:2]), *layers[1:]], "layer 0, wkv: expected shape"),
        ([layers[0], layers[1]._replace(att_shift=np.full(64, np.inf)), layers[2]], "layer 1, att_shift: expected finite"),
        ([layers[0]._replace(ffn_shift=["a"] * 64), *layers[1:]], "layer 0, ffn_shift: expected numbers"),
    ):
        with pytest.raises(InputError, match=sentence):
            State.from_numpy(changed, model)


def test_a_state_is_not_made_by_hand() -> None:
    with pytest.raises(InputError, match="new_state"):
        State()
