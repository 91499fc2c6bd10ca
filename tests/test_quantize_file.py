"""quantize_file: which tensor gets which type, what stays as it is, and what happens when it cannot be done."""

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import synthetic
from gguf import GGMLQuantizationType

from rwkvnative import _core, quantize
from rwkvnative.errors import FileError, InputError
from rwkvnative.quantize import FILE_TYPES, quantize_file

IDS = {entry["name"]: entry["ggml_type"] for entry in _core.dtypes()}
MATRIX_LEAVES = ("time_mix_receptance", "time_mix_key", "time_mix_value", "time_mix_output", "channel_mix_key", "channel_mix_value")

# What llama-quantize (ggml 0.25.3) wrote for each type: general.file_type; then the types of a matrix and of output.weight for
# ne0 = 256, 288 (not a multiple of 256) and 80 (not one of 32 either). python/tools/compare_quantizers.py compares them again.
LLAMA_QUANTIZE = {
    "f32": (0, ("F32", "F32"), ("F32", "F32"), ("F32", "F32")),
    "f16": (1, ("F16", "F16"), ("F16", "F16"), ("F16", "F16")),
    "bf16": (32, ("BF16", "BF16"), ("BF16", "BF16"), ("BF16", "BF16")),
    "q8_0": (7, ("Q8_0", "Q8_0"), ("Q8_0", "Q8_0"), ("F16", "F16")),
    "q4_0": (2, ("Q4_0", "Q6_K"), ("Q4_0", "Q8_0"), ("F16", "F16")),
    "q4_1": (3, ("Q4_1", "Q6_K"), ("Q4_1", "Q8_0"), ("F16", "F16")),
    "q5_0": (8, ("Q5_0", "Q6_K"), ("Q5_0", "Q8_0"), ("F16", "F16")),
    "q5_1": (9, ("Q5_1", "Q6_K"), ("Q5_1", "Q8_0"), ("F16", "F16")),
    "q2_k": (10, ("Q2_K", "Q6_K"), ("Q4_0", "Q8_0"), ("F16", "F16")),
    "q3_k_s": (11, ("Q3_K", "Q6_K"), ("Q4_0", "Q8_0"), ("F16", "F16")),
    "q3_k_m": (12, ("Q3_K", "Q6_K"), ("Q4_0", "Q8_0"), ("F16", "F16")),
    "q3_k_l": (13, ("Q3_K", "Q6_K"), ("Q4_0", "Q8_0"), ("F16", "F16")),
    "q4_k_s": (14, ("Q4_K", "Q6_K"), ("Q5_0", "Q8_0"), ("F16", "F16")),
    "q4_k_m": (15, ("Q4_K", "Q6_K"), ("Q5_0", "Q8_0"), ("F16", "F16")),
    "q5_k_s": (16, ("Q5_K", "Q6_K"), ("Q5_1", "Q8_0"), ("F16", "F16")),
    "q5_k_m": (17, ("Q5_K", "Q6_K"), ("Q5_1", "Q8_0"), ("F16", "F16")),
    "q6_k": (18, ("Q6_K", "Q6_K"), ("Q8_0", "Q8_0"), ("F16", "F16")),
    "iq4_nl": (25, ("IQ4_NL", "Q6_K"), ("IQ4_NL", "Q8_0"), ("F16", "F16")),
    "iq4_xs": (30, ("IQ4_XS", "Q6_K"), ("IQ4_NL", "Q8_0"), ("F16", "F16")),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[int, Path]:
    """ne0 of most matrices (channel_mix_value: 512) to an F32 file."""
    folder = tmp_path_factory.mktemp("models")
    for width, head_size in ((256, 64), (288, 32), (80, 16)):
        synthetic.make_model(folder / f"{width}.gguf", n_layer=1, n_embd=width, head_size=head_size, n_ff=512, n_vocab=300,
                             lerp_k_ndim=3 if width == 288 else 1)  # fmt: skip
    return {width: folder / f"{width}.gguf" for width in (256, 288, 80)}


def read(path: Path) -> tuple[gguf.GGUFReader, dict[str, gguf.ReaderTensor]]:
    reader = gguf.GGUFReader(path)
    return reader, {tensor.name: tensor for tensor in reader.tensors}


def values(tensor: gguf.ReaderTensor) -> np.ndarray:
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)


@pytest.mark.parametrize("width", [256, 288, 80])
@pytest.mark.parametrize("name", FILE_TYPES)
def test_types_are_those_of_llama_quantize(models, tmp_path, name, width):
    file_type, *by_width = LLAMA_QUANTIZE[name]
    matrix, output = by_width[(256, 288, 80).index(width)]
    wide_matrix = by_width[0][0]  # channel_mix_value, ne0 = 512
    summary = quantize_file(models[width], tmp_path / "out.gguf", name.upper())
    reader, tensors = read(tmp_path / "out.gguf")
    _, originals = read(models[width])
    assert list(tensors) == list(originals)
    assert reader.fields["general.file_type"].contents() == file_type
    assert reader.fields["general.quantization_version"].contents() == 2
    counts: dict[str, int] = {}
    for tensor in tensors.values():
        leaf = tensor.name.removesuffix(".weight").rsplit(".", 1)[-1]
        expected = "F32"
        if leaf == "output":
            expected = output
        elif leaf == "channel_mix_value":
            expected = wide_matrix
        elif leaf in MATRIX_LEAVES or leaf == "token_embd":
            expected = matrix
        assert (tensor.name, tensor.tensor_type.name) == (tensor.name, expected)
        assert list(tensor.shape) == list(originals[tensor.name].shape)
        counts[expected] = counts.get(expected, 0) + 1
    assert summary.type_counts == counts
    assert summary.n_bytes == (tmp_path / "out.gguf").stat().st_size
    assert summary.source_bytes == models[width].stat().st_size


@pytest.mark.parametrize("name", ["f32", "f16", "q8_0", "q4_k_m"])
def test_tensors_hold_the_quantized_or_copied_values(models, tmp_path, name):
    quantize_file(models[256], tmp_path / "out.gguf", name)
    _, tensors = read(tmp_path / "out.gguf")
    for original in read(models[256])[0].tensors:
        tensor = tensors[original.name]
        if tensor.tensor_type == original.tensor_type:
            assert np.array_equal(tensor.data, original.data), tensor.name
        else:
            rows = np.ascontiguousarray(original.data).reshape(-1, int(original.shape[0]))
            assert tensor.data.tobytes() == _core.quantize(rows, int(tensor.tensor_type)), tensor.name
            assert np.std(values(tensor) - values(original)) < 0.1 * np.std(values(original)), tensor.name


def test_metadata_is_kept_with_its_value_types(tmp_path):
    """Every kind of value, arrays of strings and numbers, an alignment of its own; only file_type changes."""
    metadata = {
        "general.alignment": np.uint32(64), "general.description": "x" * 1000 + " – é", "test.i32": np.int32(-5), "test.u64": np.uint64(1 << 40),
        "test.f32": np.float32(0.1), "test.bool": True, "test.floats": [0.5, 1.5], "test.ints": [1, -2, 3], "test.strings": ["a", "", "ü"],
    }  # fmt: skip
    synthetic.make_model(tmp_path / "in.gguf", n_layer=1, metadata=metadata)
    quantize_file(tmp_path / "in.gguf", tmp_path / "out.gguf", "q8_0")
    before, after = gguf.GGUFReader(tmp_path / "in.gguf"), gguf.GGUFReader(tmp_path / "out.gguf")
    own = {"general.file_type", "general.quantization_version"}
    header = {"GGUF.version", "GGUF.tensor_count", "GGUF.kv_count"}
    assert set(after.fields) - set(before.fields) == {"general.quantization_version"}
    for key, field in before.fields.items():
        if key not in own | header:
            copy = after.fields[key]
            assert copy.types == field.types and copy.contents() == field.contents(), key
    assert len(after.fields["tokenizer.ggml.tokens"].contents()) == 300
    assert all(tensor.data_offset % 64 == 0 for tensor in after.tensors)


@pytest.mark.parametrize("source_type", ["F16", "BF16"])
def test_half_precision_sources(tmp_path, source_type):
    model = synthetic.make_model(tmp_path / "in.gguf", n_layer=1, n_embd=256, type=source_type, lora_type=source_type)
    quantize_file(tmp_path / "in.gguf", tmp_path / "q4.gguf", "q4_k_m")
    quantize_file(tmp_path / "in.gguf", tmp_path / "f32.gguf", "f32")
    _, q4 = read(tmp_path / "q4.gguf")
    _, f32 = read(tmp_path / "f32.gguf")
    assert q4["blk.0.time_mix_w1.weight"].tensor_type.name == source_type  # LoRAs keep the type of the source
    assert f32["blk.0.time_mix_w1.weight"].tensor_type.name == source_type
    for name in ("blk.0.time_mix_key.weight", "token_embd.weight"):
        exact = model.tensors[name].dequantized()
        assert np.array_equal(values(f32[name]).reshape(exact.shape), exact)
        assert q4[name].data.tobytes() == _core.quantize(exact, IDS["Q4_K"])


def test_pieces_of_a_matrix_give_the_same_file(models, tmp_path, monkeypatch):
    """Also: progress counts up to the number of values, and never down."""
    quantize_file(models[288], tmp_path / "whole.gguf", "q4_k_m")
    monkeypatch.setattr(quantize, "_VALUES_PER_CHUNK", 7 * 288)
    calls: list[tuple[int, int]] = []
    quantize_file(models[288], tmp_path / "pieces.gguf", "q4_k_m", progress=lambda done, total: calls.append((done, total)))
    assert (tmp_path / "pieces.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    n_values = sum(int(np.prod(tensor.shape)) for tensor in gguf.GGUFReader(models[288]).tensors)
    assert len(calls) > 100 and calls[-1] == (n_values, n_values)
    assert all(a[0] < b[0] for a, b in zip(calls, calls[1:]))


def test_requantizing_has_to_be_asked_for(models, tmp_path):
    quantize_file(models[256], tmp_path / "q8.gguf", "q8_0")
    with pytest.raises(InputError, match=r"tensor 'token_embd.weight' is already Q8_0; expected F32, F16 or BF16"):
        quantize_file(tmp_path / "q8.gguf", tmp_path / "q4.gguf", "q4_k_m")
    assert not (tmp_path / "q4.gguf").exists()
    quantize_file(tmp_path / "q8.gguf", tmp_path / "q4.gguf", "q4_k_m", allow_requantize=True)
    _, q8 = read(tmp_path / "q8.gguf")
    _, q4 = read(tmp_path / "q4.gguf")
    name = "blk.0.time_mix_key.weight"
    assert q4[name].data.tobytes() == _core.quantize(values(q8[name]), IDS["Q4_K"])
    quantize_file(tmp_path / "q8.gguf", tmp_path / "same.gguf", "q8_0")  # nothing to requantize: a copy
    _, same = read(tmp_path / "same.gguf")
    assert all(np.array_equal(same[n].data, q8[n].data) for n in q8)


# ---- what cannot be done leaves nothing behind ----


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_weight_that_is_not_finite_is_named_and_the_old_file_stays(tmp_path, monkeypatch):
    model = synthetic.build_model(n_layer=1, n_embd=256)
    model.tensors["blk.0.time_mix_value.weight"].data.view(np.float32).reshape(256, 256)[200, 17] = np.nan
    synthetic.write_model(tmp_path / "in.gguf", model)
    (tmp_path / "out.gguf").write_bytes(b"an older file")
    monkeypatch.setattr(quantize, "_VALUES_PER_CHUNK", 64 * 256)
    pattern = r"tensor 'blk.0.time_mix_value.weight': row 200, column 17: expected a finite value, got nan"
    with pytest.raises(InputError, match=pattern):
        quantize_file(tmp_path / "in.gguf", tmp_path / "out.gguf", "q4_k_m")
    assert (tmp_path / "out.gguf").read_bytes() == b"an older file"
    assert leftovers(tmp_path) == ["in.gguf", "out.gguf"]


def test_an_interruption_leaves_nothing_behind(models, tmp_path):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_file(models[256], tmp_path / "out.gguf", "q4_0", progress=interrupt)
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let a mapped file be changed")
@pytest.mark.parametrize("what", ["cut", "write"])
def test_a_source_that_changes_is_an_error(models, tmp_path, what):
    """In a process of its own: it must not die of SIGBUS."""
    code = """
import sys
from pathlib import Path
from rwkvnative import FileError, quantize_file
source, target, what = map(Path, sys.argv[1:])
def change(done, total):
    with open(source, "r+b") as file:
        if what.name == "cut":
            file.truncate(5000)
        else:
            file.seek(-1, 2)
            file.write(b"?")
try:
    quantize_file(source, target, "q8_0", change)
except FileError as error:
    print(error)
"""
    source = tmp_path / "model.gguf"
    source.write_bytes(models[256].read_bytes())
    done = subprocess.run([sys.executable, "-c", code, source, tmp_path / "out.gguf", what], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert str(source) in done.stdout and ("written to" if what == "write" else "got 5000: the file was changed") in done.stdout
    assert leftovers(tmp_path) == ["model.gguf"]


def test_input_and_output_must_differ(models, tmp_path, monkeypatch):
    source = tmp_path / "model.gguf"
    source.write_bytes(models[80].read_bytes())
    (tmp_path / "link.gguf").symlink_to(source)
    monkeypatch.chdir(tmp_path)
    before = source.read_bytes()
    for target in (source, tmp_path / "link.gguf", Path("model.gguf"), tmp_path / "." / "model.gguf"):
        with pytest.raises(InputError, match="the output would overwrite the input"):
            quantize_file(source, target, "f16")
    assert source.read_bytes() == before


@pytest.mark.parametrize("name", ["", "q4", "Q4_K_X", "15", None])
def test_unknown_types(models, tmp_path, name):
    with pytest.raises(InputError, match=r"unknown type .*; expected one of f32, f16, .*q4_k_m"):
        quantize_file(models[80], tmp_path / "out.gguf", name)
    assert leftovers(tmp_path) == []


def test_files_that_cannot_be_read_or_written(models, tmp_path):
    with pytest.raises(FileError, match="no such file"):
        quantize_file(tmp_path / "absent.gguf", tmp_path / "out.gguf", "q8_0")
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(FileError, match="not a GGUF"):
        quantize_file(tmp_path / "text.gguf", tmp_path / "out.gguf", "q8_0")
    with pytest.raises(FileError, match="expected the path of a file to write, got a directory"):
        quantize_file(models[80], tmp_path, "q8_0")
    with pytest.raises(FileError, match="cannot write: no such folder"):
        quantize_file(models[80], tmp_path / "absent" / "out.gguf", "q8_0")
    assert leftovers(tmp_path) == ["text.gguf"]


def test_another_architecture_is_refused(tmp_path):
    synthetic.make_model(tmp_path / "in.gguf", n_layer=1, metadata={"general.architecture": "llama"})
    with pytest.raises(InputError, match="expected a model of architecture rwkv7, got 'llama'"):
        quantize_file(tmp_path / "in.gguf", tmp_path / "out.gguf", "q8_0")


def test_a_type_that_cannot_be_read_is_named(tmp_path):
    model = synthetic.build_model(n_layer=1, n_embd=256)
    tensor = model.tensors["token_embd.weight"]
    raw = gguf.quants.quantize(tensor.dequantized(), GGMLQuantizationType.TQ2_0)
    model.tensors["token_embd.weight"] = synthetic.Tensor(tensor.name, GGMLQuantizationType.TQ2_0, tensor.ne, raw.reshape(-1))
    synthetic.write_model(tmp_path / "in.gguf", model)
    with pytest.raises(InputError, match="tensor 'token_embd.weight': cannot read type TQ2_0; expected one of F32"):
        quantize_file(tmp_path / "in.gguf", tmp_path / "out.gguf", "q8_0", allow_requantize=True)
