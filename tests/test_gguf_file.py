"""The GGUF container: what gguf.GGUFWriter writes, GgufFile reads back; every wrong file has its own sentence."""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGUFValueType
from gguf_build import Typed, write_gguf, write_rwkv7
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rwkvnative.errors import FileError, RwkvError
from rwkvnative.gguf_file import GgufFile, TensorInfo
from rwkvnative.model_config import rwkv_config

_INT_BITS = {"UINT8": 8, "INT8": -8, "UINT16": 16, "INT16": -16, "UINT32": 32, "INT32": -32, "UINT64": 64, "INT64": -64}


def _integers(kind: str) -> st.SearchStrategy[int]:
    bits = _INT_BITS[kind]
    return st.integers(0, 2**bits - 1) if bits > 0 else st.integers(-(2 ** (-bits - 1)), 2 ** (-bits - 1) - 1)


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_names = st.text("abcXYZ_.019éß你🙂", min_size=1, max_size=40).map(lambda name: "x." + name)
_values = st.one_of(
    _texts.map(lambda v: (v, GGUFValueType.STRING)),
    st.booleans().map(lambda v: (v, GGUFValueType.BOOL)),
    st.floats(width=32).map(lambda v: (v, GGUFValueType.FLOAT32)),
    st.floats().map(lambda v: (v, GGUFValueType.FLOAT64)),
    st.lists(_texts, min_size=1, max_size=20).map(lambda v: (v, GGUFValueType.ARRAY)),
    st.lists(_integers("INT32"), min_size=1, max_size=20).map(lambda v: (v, GGUFValueType.ARRAY)),
    st.lists(st.floats(width=32), min_size=1, max_size=20).map(lambda v: (v, GGUFValueType.ARRAY)),
    st.lists(st.booleans(), min_size=1, max_size=20).map(lambda v: (v, GGUFValueType.ARRAY)),
    *(_integers(kind).map(lambda v, kind=kind: (v, GGUFValueType[kind])) for kind in _INT_BITS),
)
_arrays = st.builds(
    lambda shape, half, seed: (
        np.random.default_rng(seed).standard_normal(shape).astype(np.float16 if half else np.float32)
    ),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 9),
)


@given(
    keys=st.dictionaries(_names, _values, max_size=12),
    arrays=st.dictionaries(_names, _arrays, max_size=6),
    alignment=st.sampled_from([None, 8, 32, 64, 4096]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_reads_back_what_the_writer_wrote(
    tmp_path: Path, keys: dict[str, Typed], arrays: dict[str, np.ndarray], alignment: int | None
) -> None:
    path = tmp_path / "any.gguf"
    path.unlink(missing_ok=True)
    write_gguf(path, keys, arrays, alignment=alignment)
    with GgufFile(path) as file:
        assert file.version == 3
        written = ["general.architecture"] + (["general.alignment"] if alignment else []) + list(keys)
        assert list(file.metadata) == written
        for key, (value, kind) in keys.items():
            got = file.metadata[key]
            if kind == GGUFValueType.ARRAY and not isinstance(value[0], str):
                assert isinstance(got, np.ndarray)
                np.testing.assert_array_equal(got, np.asarray(value, dtype=got.dtype))
            elif value != value:  # NaN
                assert got != got
            else:
                assert got == value and type(got) is type(value)
        assert list(file.tensors) == list(arrays)
        for name, array in arrays.items():
            info = file.tensors[name]
            assert info.shape_ne == array.shape[::-1]
            assert info.n_bytes == array.nbytes == len(file.tensor_bytes(name))
            assert info.offset % (alignment or 32) == 0
            np.testing.assert_array_equal(file.to_numpy(name), array)
            assert file.to_numpy(name).dtype == array.dtype


def test_agrees_with_the_gguf_reader_on_a_quantized_model(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 4 * 512, dtype=np.float32).reshape(4, 512)
    writer = gguf.GGUFWriter(tmp_path / "q.gguf", "rwkv7")
    for kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q5_1, gguf.GGMLQuantizationType.BF16):
        writer.add_tensor(f"t.{kind.name}", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GgufFile(tmp_path / "q.gguf") as file:
        reader = gguf.GGUFReader(tmp_path / "q.gguf")
        assert len(reader.tensors) == len(file.tensors) == 3
        for theirs in reader.tensors:
            ours = file.tensors[theirs.name]
            assert (ours.ggml_type, ours.type_name) == (int(theirs.tensor_type), theirs.tensor_type.name)
            assert (ours.offset, ours.n_bytes) == (theirs.data_offset, theirs.n_bytes)
            assert ours.shape_ne == tuple(theirs.shape.tolist())
            assert bytes(file.tensor_bytes(theirs.name)) == theirs.data.tobytes()


def test_version_2_reads_the_same(tmp_path: Path) -> None:
    path = write_rwkv7(tmp_path / "v3.gguf")
    old = tmp_path / "v2.gguf"
    old.write_bytes(path.read_bytes()[:4] + struct.pack("<I", 2) + path.read_bytes()[8:])
    with GgufFile(path) as new_file, GgufFile(old) as old_file:
        assert old_file.version == 2
        assert old_file.tensors == new_file.tensors
        assert rwkv_config(old_file) == rwkv_config(new_file)


def test_views_outlive_close(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", tensors={"t": np.arange(1000, dtype=np.float32)})
    with GgufFile(path) as file:
        array = file.to_numpy("t")
        data = file.data
        assert not array.flags.writeable and data.readonly
    np.testing.assert_array_equal(array, np.arange(1000))
    assert bytes(data[:4]) == b"GGUF"
    with pytest.raises(FileError, match="closed"):
        file.tensor_bytes("t")
    file.close()  # twice is fine


def test_tensor_access_errors(tmp_path: Path) -> None:
    with GgufFile(write_gguf(tmp_path / "a.gguf", tensors={"t": np.zeros(3, np.int8)})) as file:
        with pytest.raises(FileError, match="'absent' is missing"):
            file.tensor_bytes("absent")
        with pytest.raises(FileError, match="reads F32 and F16, got I8"):
            file.to_numpy("t")
        with pytest.raises(FileError, match=r"'t': cannot run type I8 \(number 24\); expected one of F32, F16"):
            file.check_tensor_types([0, 1])
        file.check_tensor_types([0, 24])
        assert file.tensors["t"] == TensorInfo("t", 24, "I8", (3,), file.tensors["t"].offset, 3)


def test_strings_that_are_not_utf8_survive(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", {"k": (b"\xff\x00a\xc3", GGUFValueType.STRING)})
    with GgufFile(path) as file:
        assert file.metadata["k"].encode("utf-8", "surrogateescape") == b"\xff\x00a\xc3"


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"", "is empty"),
        (b"GG", "truncated download"),
        (b"GGUF\x03\0\0\0", "truncated download"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1 is from August 2023"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 4, 0, 0), "version 4 is unknown"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 9), "promises 9 keys, which take at least 126 bytes, but 0 follow"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "promises 1152921504606846976 tensors"),
        (struct.pack("<Q", 900) + b'{"__metadata__"', "safetensors"),
        (b"PK\x03\x04" + bytes(50), "zip archive"),
        (b"\x80\x02}q\x00", "pickle"),
        (b"fmgg" + bytes(50), "ggmf"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\r\n <HTML>", "web page"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b'{"error": "not found"}', "JSON"),
        (b"Not found", "plain text"),
        (bytes(100), "zeros"),
        (b"\x7fELF\x02", r'expected it to start with "GGUF"'),
    ],
)
def test_a_file_that_is_no_gguf_says_what_it_is(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(FileError, match=sentence) as caught:
        GgufFile(path)
    assert isinstance(caught.value, (RwkvError, OSError)) and str(path) in str(caught.value)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        GgufFile(tmp_path / "missing.gguf")
    with pytest.raises(FileError, match="directory"):
        GgufFile(tmp_path)
    with pytest.raises(FileError, match="cannot open"):
        GgufFile("nul\0byte.gguf")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="regular file"):
        GgufFile(tmp_path / "pipe")


@pytest.mark.skipif(sys.platform == "win32", reason="chmod does not take the read permission away on Windows")
def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "secret.gguf")
    path.chmod(0)
    if os.geteuid() == 0:  # root reads everything: let open() refuse as it would for others

        def refuse(*args: object, **kwargs: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(FileError, match="no permission"):
        GgufFile(path)


def _patched(path: Path, find: bytes, replace: bytes) -> Path:
    data = path.read_bytes()
    assert data.count(find) == 1 and len(find) == len(replace)
    path.write_bytes(data.replace(find, replace))
    return path


def _entry(name: bytes, dims: tuple[int, ...], kind: int, offset: int) -> bytes:
    """A tensor directory entry as it stands in the file."""
    shape = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return struct.pack("<Q", len(name)) + name + shape + struct.pack("<IQ", kind, offset)


@pytest.mark.parametrize(
    "dims, kind, offset, sentence",
    [
        ((64, 2), 31, 256, "type number 31 is .*removed|cannot run"),
        ((64, 2), 4, 256, "type number 4 is Q4_2, which was removed"),
        ((64, 2), 999, 256, "type number 999 is unknown"),
        ((0, 2), 0, 256, "zero dimension"),
        ((64, 2), 0, 257, "offset 257 is not a multiple of the alignment 32"),
        ((64, 2), 0, 32, "'b' at byte .* overlaps 'a'"),
        ((64, 3), 0, 256, "ends at byte .*, the file has .*: truncated download"),
        ((64, 2), 0, 1 << 40, "truncated download"),
        ((48, 2), 2, 256, "ne0 must be a multiple of 32 for Q4_0, got 48"),
        ((1 << 40, 1 << 40), 0, 256, "overflows 64 bits"),
    ],
)
def test_bad_tensor_entries(tmp_path: Path, dims: tuple[int, int], kind: int, offset: int, sentence: str) -> None:
    path = write_gguf(tmp_path / "t.gguf", tensors={"a": np.zeros(64, np.float32), "b": np.ones((2, 64), np.float32)})
    _patched(path, _entry(b"b", (64, 2), 0, 256), _entry(b"b", dims, kind, offset))
    with pytest.raises(FileError, match=sentence):
        with GgufFile(path) as file:
            file.check_tensor_types([0])  # where gguf still knows a retired type, this is what refuses it


def test_duplicates(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "t.gguf", tensors={"a": np.zeros(64, np.float32), "b": np.ones(64, np.float32)})
    _patched(path, _entry(b"b", (64,), 0, 256), _entry(b"a", (64,), 0, 256))
    with pytest.raises(FileError, match="tensor 'a' appears twice"):
        GgufFile(path)
    keys = {"x.one": (1, GGUFValueType.UINT32), "x.two": (2, GGUFValueType.UINT32)}
    with pytest.raises(FileError, match="key 'x.one' appears twice"):
        GgufFile(_patched(write_gguf(tmp_path / "k.gguf", keys), b"x.two", b"x.one"))


@pytest.mark.parametrize("alignment", [0, 1, 4, 33, 48, 1 << 21, (1 << 32) - 1])
def test_bad_alignment(tmp_path: Path, alignment: int) -> None:
    path = write_gguf(tmp_path / "t.gguf", {"general.alignment": (alignment, GGUFValueType.UINT32)})
    with pytest.raises(
        FileError, match=f"'general.alignment': expected a power of two from 8 to 1048576, got {alignment}"
    ):
        GgufFile(path)


def test_split_model(tmp_path: Path) -> None:
    keys = {"split.count": (3, GGUFValueType.UINT16), "split.no": (1, GGUFValueType.UINT16)}
    with pytest.raises(FileError, match="part 2 of 3 of a split model"):
        GgufFile(write_gguf(tmp_path / "t-00002-of-00003.gguf", keys))
    write_gguf(tmp_path / "whole.gguf", {"split.count": (1, GGUFValueType.UINT16)})
    GgufFile(tmp_path / "whole.gguf").close()


def test_config(tmp_path: Path) -> None:
    with GgufFile(write_rwkv7(tmp_path / "m.gguf")) as file:
        arch, config = rwkv_config(file)
    assert arch == "rwkv7"
    assert config.pop("layer_norm_epsilon") == pytest.approx(1e-5, rel=1e-7)
    assert all(type(value) is int for value in config.values())
    assert config == {
        "n_layer": 1, "n_embd": 32, "n_ff": 64, "head_size": 16, "n_vocab": 300, "context_length": 4096,
        "decay_rank": 8, "iclr_rank": 6, "value_rank": 4, "gate_rank": 10, "token_shift_count": 2,
    }  # fmt: skip


_U32, _F32, _STR = GGUFValueType.UINT32, GGUFValueType.FLOAT32, GGUFValueType.STRING


@pytest.mark.parametrize(
    "key, value, sentence",
    [
        ("rwkv7.block_count", None, "key 'rwkv7.block_count' is missing"),
        ("rwkv7.block_count", (0, _U32), "expected 1 to 1024, got 0"),
        ("rwkv7.block_count", (4_000_000_000, _U32), "expected 1 to 1024, got 4000000000"),
        ("rwkv7.block_count", ("2", _STR), "expected an integer, got the string '2'"),
        ("rwkv7.block_count", (True, GGUFValueType.BOOL), "expected an integer, got bool True"),
        ("rwkv7.block_count", (1.0, _F32), "expected an integer, got float 1.0"),
        ("rwkv7.block_count", ([1, 1], GGUFValueType.ARRAY), "expected an integer, got an array of 2 items"),
        ("rwkv7.embedding_length", (-32, GGUFValueType.INT32), "expected 1 to 131072, got -32"),
        ("rwkv7.wkv.head_size", (24, _U32), "expected a divisor of the embedding length 32, got 24"),
        ("rwkv7.attention.head_count", (7, _U32), "expected 0 or 2, got 7"),
        ("rwkv7.attention.layer_norm_epsilon", (float("nan"), _F32), "layer_norm_epsilon': expected .*, got nan"),
        ("rwkv7.attention.layer_norm_epsilon", (float("inf"), _F32), "layer_norm_epsilon': expected .*, got inf"),
        ("rwkv7.attention.layer_norm_epsilon", (-1e-5, _F32), "layer_norm_epsilon': expected .*, got -"),
        ("rwkv7.attention.layer_norm_epsilon", ("small", _STR), "expected a number, got the string 'small'"),
        ("rwkv7.attention.gate_lora_rank", (1 << 31, _U32), "gate_lora_rank': expected 1 to 65536"),
        ("rwkv7.token_shift_count", (1, _U32), "token_shift_count': expected 2, got 1"),
        ("tokenizer.ggml.tokens", None, "'tokenizer.ggml.tokens' is missing"),
        ("tokenizer.ggml.tokens", ([1, 2, 3], GGUFValueType.ARRAY), "expected an array of strings"),
    ],
)
def test_bad_hyper_parameters(tmp_path: Path, key: str, value: Typed | None, sentence: str) -> None:
    with GgufFile(write_rwkv7(tmp_path / "m.gguf", overrides={key: value})) as file:
        with pytest.raises(FileError, match=sentence):
            rwkv_config(file)


@pytest.mark.parametrize(
    "arch, sentence",
    [
        ("llama", "this is a llama model, not RWKV; supported: rwkv7"),
        ("rwkv6", "'rwkv6' is an RWKV, but not supported yet; supported: rwkv7"),
        ("arwkv7", "'arwkv7' is an RWKV, but not supported yet"),
        ("rwkv6qwen2", "'rwkv6qwen2' is an RWKV, but not supported yet"),
        ("rwkv9", "'rwkv9' is an RWKV, but not supported yet"),
    ],
)
def test_other_architectures(tmp_path: Path, arch: str, sentence: str) -> None:
    with GgufFile(write_rwkv7(tmp_path / "m.gguf", arch=arch)) as file:
        with pytest.raises(FileError, match=sentence):
            rwkv_config(file)


def test_an_architecture_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    with GgufFile(write_gguf(tmp_path / "m.gguf", arch="a\x1b[31m")) as file:
        with pytest.raises(FileError, match=r"this is a a\\x1b\[31m model"):
            rwkv_config(file)


def test_no_architecture_at_all(tmp_path: Path) -> None:
    path = _patched(write_rwkv7(tmp_path / "m.gguf"), b"general.architecture", b"general.architectura")
    with GgufFile(path) as file, pytest.raises(FileError, match="'general.architecture' is missing"):
        rwkv_config(file)


def test_parsing_a_full_vocabulary_is_quick(tmp_path: Path) -> None:
    tokens = [f"\\x{i % 256:02x}token{i}" for i in range(65536)]
    path = write_rwkv7(tmp_path / "big.gguf", tokens, [1] * 65536)
    times = []
    for _ in range(5):
        started = time.thread_time()  # of the processor: others that wait for it do not count
        GgufFile(path).close()
        times.append(time.thread_time() - started)
    assert min(times) < 0.15, times  # measured: 0.02 s; GGUFReader takes 1.5 s


def page_faults() -> int:
    """Of this thread so far; 0 where the system does not count them."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_minflt


def test_a_sparse_gigabyte_opens_at_once(tmp_path: Path) -> None:
    """Opening reads the directory only: the size of the tensors does not matter."""
    path = tmp_path / "giga.gguf"
    entry = _entry(b"t", (1 << 28,), 0, 0)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + entry)
    start = -(-(24 + len(entry)) // 32) * 32
    os.truncate(path, start + (1 << 30))
    before = page_faults()
    with GgufFile(path) as file:
        assert page_faults() - before < 1000  # the tensor has 262144 pages, of which the system maps 16 at a time
        assert file.tensors["t"].n_bytes == 1 << 30
        assert len(file.tensor_bytes("t")) == 1 << 30
    os.truncate(path, start + (1 << 30) - 1)
    with pytest.raises(FileError, match=f"ends at byte {start + (1 << 30)}, the file has {start + (1 << 30) - 1}"):
        GgufFile(path)


def test_opening_from_several_threads(tmp_path: Path) -> None:
    path = write_rwkv7(tmp_path / "m.gguf")
    expected = GgufFile(path).tensors
    found: list[dict[str, TensorInfo]] = []
    threads = [threading.Thread(target=lambda: found.append(GgufFile(path).tensors)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8
