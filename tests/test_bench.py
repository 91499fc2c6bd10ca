"""`rwkvnative bench`: what it computes from times, what it writes and reads back, and what it refuses. No time is asserted."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import sys

import numpy as np
import pytest
import synthetic
import webgpu_devices
from typer.testing import CliRunner

from rwkvnative import Model, _core
from rwkvnative.bench import random_model as random_model_module
from rwkvnative.bench.measure import Test as BenchTest
from rwkvnative.bench.measure import tests as bench_tests
from rwkvnative.bench.measure import warm_up
from rwkvnative.bench.quality import log_probabilities, quality
from rwkvnative.bench.random_model import SIZES, random_model
from rwkvnative.bench.record import Report, Result, compare, read_report
from rwkvnative.bench.subject import file_subject, random_subject
from rwkvnative.cli import app
from rwkvnative.errors import DeviceError, FileError, InputError
from rwkvnative.gguf_file import GgufFile

CEILINGS = {"read_bytes_per_second": 1e9, "dispatch_seconds": 1e-6, "int8_per_second": 4e9, "f16_per_second": 0.0,
            "f32_per_second": 1e9, "matrix_per_second": 0.0, "upload_bytes_per_second": 0.0}
DEVICE = {"device": "cpu", "device_name": "2 threads", "backend": "cpu", "kind": "cpu", "features": [], "n_threads": 2}
QUICK = ("--device", "cpu", "-p", "16", "-n", "4", "-r", "2", "--warm", "0")


def invoke(*args: str):
    return CliRunner().invoke(app, ["bench", *args])


def result(**changes) -> Result:
    values = {"model": "m", "types": "Q4_K", "model_bytes": 1000, "numerics": "auto", "test": "tg100", "n_tokens": 100,
              "n_bytes": 2 * 10**9, "n_operations": 10**9, "seconds": [5.0, 4.0, 10.0]}
    return Result(**values | changes)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "tiny.gguf"
    synthetic.make_model(path, n_vocab=600)
    return str(path)


# ---- arithmetic ----


def test_rates_are_bytes_and_tokens_over_time():
    r = result()
    assert r.rates == [20.0, 25.0, 10.0] and r.rate == 20.0
    assert r.bytes_per_second == 2e9 / 5
    assert r.share_of_ceiling(CEILINGS) == pytest.approx(2.0 / 5)  # 2 GB at 1 GB/s, of 5 s
    slow_arithmetic = result(n_operations=12 * 10**9)  # 3 s at the fastest arithmetic, int8
    assert slow_arithmetic.share_of_ceiling(CEILINGS) == pytest.approx(3.0 / 5)
    assert result(peer="x", peer_tokens_per_second=[5.0, 40.0, 10.0]).peer_ratio == 2.0


def test_the_least_work_of_a_test_counts_weights_once_a_step(gguf):
    subject = file_subject(gguf, "cpu", 1, "auto")
    tensors = {name: (ne, n) for name, _, ne, _, n in subject.tensors}
    table_row = tensors["token_embd.weight"][1] // 600
    unused = sum(tensors[f"blk.0.time_mix_v{i}.weight"][1] for i in "012")
    weights = subject.n_bytes - tensors["token_embd.weight"][1] - unused
    state = subject.engine.info["state_bytes"]
    one = BenchTest("decode", 3).work(subject)
    assert one.n_bytes == 3 * (weights + table_row + 2 * state)
    batch = BenchTest("decode", 3, 8).work(subject)
    assert batch.n_bytes == 3 * (weights + 8 * table_row + 16 * state) and batch.n_operations == 8 * one.n_operations
    rows = subject.engine.info["prefill_rows"]
    prompt = BenchTest("prefill", rows + 1).work(subject)
    assert prompt.n_bytes == 2 * (weights + 2 * state) + (rows + 1) * table_row
    subject.close()


def test_the_first_layers_value_lora_is_as_the_converter_makes_it():
    """A copy of the in-context learning rate's, whose rank llama.cpp wants of it (--peer with --random)."""
    size = random_model_module.Size(2, 256, (32, 96, 64, 32), n_vocab=300)
    types = random_model_module.TensorTypes("F16", "F16", "F16", "F16", "F32")
    shapes = {name: ne for name, _, ne, _, _ in random_model_module.small_random_model(size, types).tensors}
    assert shapes["blk.0.time_mix_v1.weight"] == shapes["blk.0.time_mix_a1.weight"] != shapes["blk.1.time_mix_v1.weight"]
    assert shapes["blk.0.time_mix_v2.weight"] == shapes["blk.0.time_mix_a2.weight"]


def test_tests_are_every_prompt_then_every_count_at_every_batch():
    assert [t.label for t in bench_tests([0, 32], [8, 4], [1, 2])] == ["pp32", "tg8", "tg8 b2", "tg4", "tg4 b2"]
    assert BenchTest("decode", 8, 4).n_tokens == 32
    for bad in (([-1], [1], [1]), ([1], [1], [0]), ([0], [0], [1])):
        with pytest.raises(InputError, match="bench"):
            bench_tests(*bad)


def test_warming_up_goes_on_while_runs_get_faster(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rwkvnative.bench.measure.time.perf_counter", lambda: now[0])
    durations = iter([1.0, 0.5, 0.4, 0.3, 0.2, 0.2, 0.2, 0.2, 99.0])

    def run():
        now[0] += next(durations)

    assert warm_up(run, least=0.1, most=50.0) == pytest.approx(0.2)
    assert next(durations) == 99.0  # three steady runs after the first of 0.2, and no more


# ---- records ----


def test_a_report_is_read_back_as_it_was_written(tmp_path):
    report = Report(DEVICE, CEILINGS, [result(), result(test="pp5", loss=1.25, kl_divergence=0.5)], "1.2.3")
    path = tmp_path / "r.json"
    path.write_text(report.json())
    again = read_report(path)
    assert again == report
    rows = list(csv.DictReader(io.StringIO(report.csv())))
    assert float(rows[0]["tokens_per_second"]) == 20.0 and rows[1]["loss"] == "1.25"
    headings, cells = report.table()
    assert headings[-2:] == ["loss", "KL to F32"] and cells[0][-1] == "" and "20.0" in cells[0]
    assert report.markdown().count("\n") == 4


@pytest.mark.parametrize("text", ["", "[]", "{", '{"tool": "rwkvnative bench"}', '{"tool": "rwkvnative bench", "version": 99}',
                                  '{"tool": "rwkvnative bench", "version": 1, "device": {}, "ceilings": {}, "results": []}',
                                  '{"tool": "rwkvnative bench", "version": 1, "results": 5}'])
def test_compare_refuses_a_broken_file_in_one_sentence(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    got = invoke(*QUICK, "--random", "tiny", "--compare", str(path))
    assert got.exit_code == 2 and str(path) in got.stderr and got.stderr.count("\n") == 1
    with pytest.raises(FileError):
        read_report(path)


def test_compare_gives_the_ratio_and_its_spread():
    old, new = Report(DEVICE, CEILINGS, [result()]), Report(DEVICE, CEILINGS, [result(seconds=[2.0, 2.5, 1.0])])
    _, rows = compare(new, old, "old.json")
    # before 20 tok/s (10..25), now 50 (40..100)
    assert rows == [["m", "tg100", "20.0", "50.0", "2.500", "1.600..10.000", "faster"]]
    _, rows = compare(old, old, "old.json")
    assert rows[0][4:] == ["1.000", "0.400..2.500", "within the spread"]


@pytest.mark.parametrize("change", [{"device_name": "another"}, {"backend": "webgpu"}, {"n_threads": 8}])
def test_compare_refuses_another_device(change):
    with pytest.raises(InputError, match="another"):
        compare(Report(DEVICE, CEILINGS, [result()]), Report(DEVICE | change, CEILINGS, [result()]), "old.json")
    with pytest.raises(InputError, match="none of these"):
        compare(Report(DEVICE, CEILINGS, [result()]), Report(DEVICE, CEILINGS, [result(test="pp1")]), "old.json")


# ---- random models ----


@pytest.mark.parametrize("file_type", ["f32", "bf16", "q8_0", "q5_1", "q2_k", "q4_k_m", "iq4_xs"])
def test_a_random_model_runs_without_growing(file_type):
    subject = random_subject(f"tiny:{file_type}", "cpu", 1, "auto")
    state = subject.engine.new_state()
    logits = subject.engine.forward(np.arange(1, 400, dtype=np.int32), None, state, "all")
    assert np.isfinite(logits).all()
    assert 0.5 < logits[-100:].std() < 5  # unit-variance inputs times a head of deviation 2
    parts = state.read()
    assert all(np.isfinite(part).all() for part in parts.values()) and np.abs(parts["wkv"]).max() < 1e3
    subject.close()


def test_a_random_model_as_a_file_is_the_same_model(tmp_path):
    model = random_model("tiny:q4_k_m")
    path = tmp_path / "random.gguf"
    model.write(path)
    tokens = np.arange(50, dtype=np.int32)
    engine = _core.Engine("rwkv7", model.config, model.tensors, model.data, "cpu")
    expected = engine.forward(tokens, None, engine.new_state(), "last")
    with Model(path, "cpu") as from_file:
        got, _ = from_file.forward(tokens)
        assert from_file.info["n_parameters"] == file_subject(path, "cpu", 1, "auto").n_parameters
    np.testing.assert_array_equal(got, expected)


def test_random_models_are_what_was_published():
    for name, billions in (("0.1b", 0.19), ("0.4b", 0.45), ("1.5b", 1.53), ("2.9b", 2.95), ("7.2b", 7.2), ("13.3b", 13.3)):
        size = SIZES[name]
        entries = random_model_module._shapes(size, random_model_module.TensorTypes("Q4_K", "Q4_K", "Q6_K", "F16", "F32"))
        assert sum(np.prod(ne, dtype=np.int64) for _, ne, _, _ in entries) / 1e9 == pytest.approx(billions, rel=0.02)


@pytest.mark.parametrize("spec", ["", "3b", "2.9b:q9_k", ":q4_k_m"])
def test_an_unknown_random_model_is_refused(spec):
    with pytest.raises(InputError, match="expected one of"):
        random_model(spec)


def test_a_random_model_that_memory_cannot_hold_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(random_model_module, "available_memory", lambda: 10**9)
    with pytest.raises(InputError, match=r"needs 1\.9 GB of memory, this machine has 1\.0 GB"):
        random_model("2.9b:q4_k_m")


def test_a_random_model_that_the_process_may_not_take(monkeypatch):
    """Where there is no telling before: the system's refusal is named as what it is."""
    monkeypatch.setattr(random_model_module, "available_memory", lambda: None)
    monkeypatch.setitem(SIZES, "endless", random_model_module.Size(1, 2**20, (32, 32, 32, 32), n_vocab=2**38))  # 2 EB
    with pytest.raises(MemoryError, match="GB for a random model: "):
        random_model("endless:f32")
    done = invoke("--device", "cpu", "--random", "endless:f32")
    assert done.exit_code == 2 and "error: out of memory: " in done.stderr


# ---- the command ----


def test_bench_json(gguf):
    got = invoke(*QUICK, "-m", gguf, "--random", "tiny", "-b", "1,3", "--json")
    assert got.exit_code == 0, got.stderr
    report = json.loads(got.stdout)
    assert [(r["model"], r["test"]) for r in report["results"]] == [
        (model, test) for model in ("synthetic (tiny.gguf)", "random tiny q4_k_m") for test in ("pp16", "tg4", "tg4 b3")]
    assert all(len(r["seconds"]) == 2 and min(r["seconds"]) > 0 for r in report["results"])
    assert report["ceilings"]["read_bytes_per_second"] > 0 and report["ceilings"]["int8_per_second"] > 0
    assert "ceilings: reads" in got.stderr


def test_a_damaged_model_is_not_timed(tmp_path):
    """It makes no tokens: less work than would be counted."""
    synthetic.make_model(tmp_path / "m.gguf", n_layer=1, n_vocab=300)
    with GgufFile(tmp_path / "m.gguf") as file, open(tmp_path / "m.gguf", "r+b") as out:
        out.seek(file.tensors["output_norm.bias"].offset)
        out.write(np.float32(np.nan).tobytes())
    got = invoke("-m", str(tmp_path / "m.gguf"), "--device", "cpu", "-p", "0", "-n", "4", "-r", "1", "--warm", "0")
    assert got.exit_code == 2 and "not all finite" in got.stderr and got.stdout == ""


def test_bench_table_and_comparison_with_itself(gguf, tmp_path):
    path = tmp_path / "before.json"
    path.write_text(invoke(*QUICK, "-m", gguf, "--json").stdout)
    got = invoke(*QUICK, "-m", gguf, "--compare", str(path))
    assert got.exit_code == 0 and "tok/s" in got.stdout and "% of ceiling" in got.stdout and "verdict" in got.stdout


@pytest.mark.parametrize("args, message", [
    (("-b", "0"), "-b: expected"), (("-b", "x"), "-b: expected"), (("-r", "0"), "-r: expected"), (("-p", "0", "-n", "0"), "nothing"),
    (("-b", "100000", "--random", "tiny"), "at most"), (("-m", "missing.gguf"), "no such file"), (("--peer", "llama-bench=/no/such"), "is not there"), (("--peer", "other=x"), "expected"),
    (("--compare", "missing.json"), "No such file"), (("--json", "--csv"), "choose one"), (("--quality", "missing.txt"), "No such file"),
    (("--quality-reference", "x"), "needs --quality"), (("--device", "tpu"), "device"), (("--threads", "0"), "--threads"),
    (("--numerics", "f8"), "numerics"), (("--random", "tiny", "--quality", __file__), "random model"),
])
def test_bad_input_is_one_sentence(args, message):
    got = invoke("--device", "cpu", *args)
    assert got.exit_code == 2 and message in got.stderr and got.stdout == "", got.stderr


def test_a_model_that_does_not_fit_says_what_it_needs(monkeypatch):
    device = webgpu_devices.require("llvmpipe")
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_MEMORY", str(1 << 20))
    with pytest.raises(DeviceError, match=r"need 2 MiB of device memory, the device has 1 MiB"):
        random_subject("tiny:q4_k_m", device, None, "auto")


# ---- the peer ----


@pytest.fixture
def fake_llama_bench(tmp_path):
    """Notes its arguments, checks that the model is a GGUF, and answers as llama-bench does."""
    if os.name == "nt":
        pytest.skip("a script is not a program on Windows")
    log = tmp_path / "log"
    program = tmp_path / "llama-bench"
    program.write_text(f"#!{sys.executable}\n" + """
import json, sys
args = sys.argv[1:]
model = args[args.index("-m") + 1]
assert open(model, "rb").read(4) == b"GGUF"
open(%r, "a").write(json.dumps(args) + "\\n")
print(json.dumps([{"n_prompt": 1, "avg_ts": 8.0}]))
""" % str(log))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program, log


def test_peer_runs_in_turn_on_the_same_file(fake_llama_bench, gguf):
    program, log = fake_llama_bench
    got = invoke(*QUICK, "-m", gguf, "--random", "tiny", "--threads", "1", "--peer", f"llama-bench={program}", "--json")
    assert got.exit_code == 0, got.stderr
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(calls) == 8  # two models, two tests, two repetitions
    assert calls[0] == ["-m", gguf, "-p", "16", "-n", "0", "-r", "1", "-o", "json", "-ngl", "0", "-t", "1"]
    assert calls[2][3:6] == ["16", "-n", "0"] or calls[2][2:6] == ["-p", "0", "-n", "4"]
    for r in json.loads(got.stdout)["results"]:
        assert r["peer_tokens_per_second"] == [8.0, 8.0]


def test_a_peer_that_fails_is_reported_with_what_it_said(fake_llama_bench, gguf):
    program, _ = fake_llama_bench
    program.write_text("#!/bin/sh\necho out of cheese >&2\nexit 3\n")
    got = invoke(*QUICK, "-m", gguf, "--peer", f"llama-bench={program}")
    assert got.exit_code == 2 and "status 3" in got.stderr and "out of cheese" in got.stderr


# ---- quality ----


def test_quality_is_the_loss_and_divergence_of_the_logits(tmp_path):
    path, other_path = tmp_path / "a.gguf", tmp_path / "b.gguf"
    synthetic.make_model(path, n_vocab=600, seed=1)
    synthetic.make_model(other_path, n_vocab=600, seed=1, types={"channel_mix_key": "F16", "channel_mix_value": "F16"})
    text = "hello world " * 30 + "\n<s>\n" + "state and token"
    with Model(path, "cpu", 1) as model, Model(other_path, "cpu", 1) as other:
        got = quality(other, text, model)
        losses, divergences = [], []
        for document in text.split("\n<s>\n"):
            tokens = [*model.tokenizer.encode(document), model.tokenizer.eos_id]
            p, q = (np.atleast_2d(m.forward(tokens[:-1], all_logits=True)[0]).astype(np.float64) for m in (model, other))
            p, q = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (p, q))
            losses += [-q[i, t] for i, t in enumerate(tokens[1:])]
            divergences += list((np.exp(p) * (p - q)).sum(axis=1))
        assert got.n_tokens == len(losses)
        assert got.loss == pytest.approx(np.mean(losses), rel=1e-5)  # float32 sums here, float64 there
        assert got.kl_divergence == pytest.approx(np.mean(divergences), rel=1e-2, abs=1e-7)
        assert quality(model, text).kl_divergence is None
        assert quality(model, text, model).kl_divergence == 0.0
        model.tokenizer.eos_id = None  # a vocabulary without an end of text
        assert quality(model, "hello world\n<s>\n").n_tokens == len(model.tokenizer.encode("hello world")) - 1
        with pytest.raises(InputError, match="text is empty"):
            quality(model, "\n<s>\n")


def test_quality_columns_of_bench(tmp_path, gguf):
    text = tmp_path / "text.txt"
    text.write_text("the state of the model")
    got = invoke(*QUICK, "-p", "0", "-m", gguf, "--quality", str(text), "--quality-reference", gguf, "--json")
    entry = json.loads(got.stdout)["results"][0]
    assert entry["kl_divergence"] == pytest.approx(0.0, abs=1e-9) and 0 < entry["loss"] < 100
    text.write_bytes(b"\xff\xfe\x00")
    assert "expected UTF-8" in invoke(*QUICK, "-m", gguf, "--quality", str(text)).stderr


def test_log_probabilities_sum_to_one():
    logits = np.array([[1e4, 1e4 - 1, 0.0], [-5.0, 2.0, 1.0]], np.float32)
    assert np.exp(log_probabilities(logits)).sum(axis=1) == pytest.approx([1, 1], rel=1e-6)
