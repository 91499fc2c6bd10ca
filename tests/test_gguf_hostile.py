"""Damaged files: each loads, or raises an RwkvError. No other exception, no crash, no second of waiting, no 200 MB."""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from gguf import GGUFValueType
from gguf_build import CONTROL, NORMAL, UNUSED, USER_DEFINED, Typed, write_rwkv7
from hostile import mutations, walk

from rwkvnative import Model
from rwkvnative.errors import FileError, RwkvError
from rwkvnative.gguf_file import GgufFile
from rwkvnative.model_config import rwkv_config
from rwkvnative.tokenizer import tokenizer_from_gguf
from rwkvnative.vocabulary import BYTE_TO_CHAR

_MAX_SECONDS, _MAX_BYTES = 5.0, 200 << 20  # measured: 0.5 s with sanitizers; what is quadratic takes hours


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good World model."""
    return write_rwkv7(tmp_path_factory.mktemp("base") / "world.gguf").read_bytes()


@pytest.fixture(scope="module")
def bpe_base(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The same with a byte-level BPE vocabulary."""
    alphabet = [chr(BYTE_TO_CHAR.get(byte, byte)) for byte in range(256)]
    keys: dict[str, Typed | None] = {
        "tokenizer.ggml.model": ("gpt2", GGUFValueType.STRING),
        "tokenizer.ggml.pre": ("qwen2", GGUFValueType.STRING),
        "tokenizer.ggml.merges": (["t h", "th e", "\u0120 the"], GGUFValueType.ARRAY),
    }
    tokens = ["<|endoftext|>", *alphabet, "th", "the", "\u0120the", "<tool>", "[PAD261]"]
    types = [CONTROL] + [NORMAL] * 259 + [USER_DEFINED, UNUSED]
    return write_rwkv7(tmp_path_factory.mktemp("base") / "bpe.gguf", tokens, types, keys).read_bytes()


def use_everything(path: Path) -> None:
    """Open a file and use all that opening it promises: config, tokenizer, every tensor's bytes."""
    with GgufFile(path) as gguf:
        rwkv_config(gguf)
        tokenizer = tokenizer_from_gguf(gguf)
        for text in ("the \n\n你好", bytes(range(256))):
            try:
                tokenizer.decode(tokenizer.encode(text, allow_special=True))
            except RwkvError:
                pass
        for name, info in gguf.tensors.items():
            view = gguf.tensor_bytes(name)
            assert len(view) == info.n_bytes
            view[0], view[-1]  # touch both ends: inside the mapping or a crash


def attempt(label: str, path: Path, data: bytes, use: Callable[[Path], None] = use_everything) -> bool:
    """Write and use one damaged file; whether it loaded. Fails the test on anything but success or an RwkvError."""
    path.unlink(missing_ok=True)  # a new file each time: the old one may still be mapped
    path.write_bytes(data)
    try:
        use(path)
        return True
    except RwkvError as error:
        if use is use_everything:
            assert str(path) in str(error), f"{label}: the message does not name the file: {error}"
        assert str(error).isprintable(), f"{label}: {error!r}"
        return False
    except Exception as error:
        pytest.fail(f"{label}: {type(error).__name__}: {error}")


@pytest.mark.parametrize("kind", ["base", "bpe_base"])
def test_every_mutation_loads_or_raises_rwkv_error(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    base: bytes = request.getfixturevalue(kind)
    loaded = refused = 0
    slowest = (0.0, "")
    for label, data in mutations(base):
        started = time.process_time()
        if attempt(label, tmp_path / "hostile.gguf", data):
            loaded += 1
        else:
            refused += 1
        slowest = max(slowest, (time.process_time() - started, label))
    print(f"{loaded} loaded, {refused} refused, slowest {slowest}")
    assert slowest[0] < _MAX_SECONDS, slowest
    assert refused >= 2000  # the mutations do bite
    assert loaded >= 50  # and some are harmless: names, flips in strings


def run_model(path: Path) -> None:
    """Open a file as a model and let it speak; what a file holds must not crash the engine either."""
    model = Model(path, device="cpu", n_threads=1)
    tokens = [t for t in (1, 200, 299) if t < model.n_vocab]
    logits, state = model.forward(tokens, all_logits=True)
    assert logits.shape == (len(tokens), model.n_vocab)
    model.forward(tokens[:1], state)


def test_every_mutation_through_the_model(base: bytes, tmp_path: Path) -> None:
    """The engine checks presence and shapes of the tensors and trusts nothing else either."""
    ran = refused = 0
    for label, data in mutations(base):
        if attempt(label, tmp_path / "hostile.gguf", data, run_model):
            ran += 1
        else:
            refused += 1
    print(f"{ran} ran, {refused} refused")
    assert refused >= 2000 and ran >= 50


def test_inflated_numbers_do_not_buy_memory(base: bytes, tmp_path: Path) -> None:
    largest = (0, "")
    tracemalloc.start()
    try:
        for label, data in mutations(base):
            if not any(word in label for word in (" count ", "general.name value length", "token_embd", "million")):
                continue
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            attempt(label, tmp_path / "hostile.gguf", data)
            largest = max(largest, (tracemalloc.get_traced_memory()[1] - before, label))
    finally:
        tracemalloc.stop()
    print(f"largest {largest}")
    assert largest[0] < _MAX_BYTES, largest


def test_truncation_at_any_boundary_is_refused(base: bytes, tmp_path: Path) -> None:
    fields, data_start = walk(base)
    path = tmp_path / "cut.gguf"
    for at in sorted({f.at for f in fields} | {data_start, (data_start + len(base)) // 2, len(base) - 64}):
        path.unlink(missing_ok=True)
        path.write_bytes(base[:at])
        with pytest.raises(FileError, match="truncated|empty"):
            GgufFile(path)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="counts on sparse files, which other systems fill with real zeros"
)
@pytest.mark.parametrize("item_type, count", [(8, 1 << 35), (0, 1 << 38), (9, 1 << 34), (8, 1 << 22)])
def test_sparse_file_does_not_buy_memory(tmp_path: Path, item_type: int, count: int) -> None:
    """A terabyte of hole makes any count plausible: the limits have to hold, not the file's size."""
    path = tmp_path / "sparse.gguf"
    header = b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little") + (1).to_bytes(8, "little")
    key = (
        (1).to_bytes(8, "little")
        + b"a"
        + (9).to_bytes(4, "little")
        + item_type.to_bytes(4, "little")
        + count.to_bytes(8, "little")
    )
    path.write_bytes(header + key)
    os.truncate(path, 1 << 40)
    tracemalloc.start()
    try:
        with pytest.raises(FileError, match="damaged"):
            GgufFile(path)
        assert tracemalloc.get_traced_memory()[1] < _MAX_BYTES
    finally:
        tracemalloc.stop()
