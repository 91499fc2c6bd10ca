"""`rwkvnative profile`: structure, arithmetic and verdicts. No time is asserted, only what follows from times."""

from __future__ import annotations

import json

import numpy as np
import pytest
import synthetic
import webgpu_devices
from typer.testing import CliRunner

from rwkvnative.bench import profile as profiling
from rwkvnative.bench.ceilings import describe
from rwkvnative.bench.plot import _spread, plot
from rwkvnative.bench.profile import ARITHMETIC, HOST, LATENCY, MEMORY, UNKNOWN, UPLOAD, HostPart, analyse, bound
from rwkvnative.bench.subject import random_subject
from rwkvnative.bench.trace import chrome_trace
from rwkvnative.cli import app

# 1 GB/s, 4 G int8, 1 G f32 operations a second, 2 us a dispatch
CEILINGS = {"read_bytes_per_second": 1e9, "dispatch_seconds": 2e-6, "int8_per_second": 4e9, "f16_per_second": 0.0,
            "f32_per_second": 1e9, "matrix_per_second": 1e10, "upload_bytes_per_second": 0.0}


def step(ops, step_us, rows=1, timestamps=True, uploads=()):
    keys = ("label", "layer", "microseconds", "bytes", "operations", "arithmetic")
    return {"rows": rows, "sequences": 1, "timestamps": timestamps, "step_seconds": step_us * 1e-6, "submit_seconds": 3e-6,
            "alone_seconds": step_us * 2e-6, "ops": [dict(zip(keys, op, strict=True)) for op in ops],
            "uploads": [dict(zip(("label", "bytes", "microseconds", "first_op"), u, strict=True)) for u in uploads]}


MADE_UP = [("embed", -1, 4.0, 100, 10, "f32"), ("linear r", 0, 30.0, 20000, 40000, "int8"), ("linear x", 0, 50.0, 1000, 40000, "f32"),
           ("linear r", 1, 30.0, 20000, 40000, "int8"), ("head", -1, 60.0, 40000, 1000, "int8")]


@pytest.fixture(scope="module")
def gpu():
    return webgpu_devices.require("llvmpipe")


@pytest.fixture(scope="module")
def gpu_subject(gpu):
    subject = random_subject("tiny:q4_k_m", gpu, None, "auto")
    yield subject
    subject.close()


def invoke(*args: str):
    return CliRunner().invoke(app, ["profile", *args])


# ---- made-up records ----


def test_without_ceilings_nothing_is_said_to_bind():
    """Of a backend that measures none."""
    nothing = dict.fromkeys(CEILINGS, 0.0)
    record = analyse(step(MADE_UP, 200.0), nothing)
    assert {op.bound for op in record.ops} == {UNKNOWN} and record.bound == UNKNOWN and record.least_microseconds == 0
    assert sum(record.shares().values()) == pytest.approx(200.0)
    assert "does not measure" in describe(nothing)


def test_bound_is_the_largest_of_the_three():
    assert bound(3, 2, 1) == MEMORY and bound(2, 3, 1) == ARITHMETIC and bound(1, 2, 3) == LATENCY
    assert bound(0, 0, 1) == LATENCY and bound(0, 0, 0) == UNKNOWN


def test_ops_are_put_beside_the_ceilings():
    record = analyse(step(MADE_UP, 174.0), CEILINGS)
    assert [op.bound for op in record.ops] == [LATENCY, MEMORY, ARITHMETIC, MEMORY, MEMORY]
    linear = record.ops[1]
    assert linear.memory_microseconds == pytest.approx(20.0)  # 20 kB at 1 GB/s
    assert linear.arithmetic_microseconds == pytest.approx(10.0)  # 40 kop at 4 Gop/s
    assert linear.share_of_roofline == pytest.approx(20 / 30) and linear.bytes_per_second == pytest.approx(20000 / 30e-6)
    assert record.overhead_microseconds == 0 and record.host_microseconds == pytest.approx(0)
    assert record.bound == MEMORY and record.shares()[MEMORY] == pytest.approx(120)
    assert [label for label, _ in record.kinds()][:2] in (["linear r", "head"], ["head", "linear r"])


def test_the_clocks_share_is_taken_off_each_op():
    record = analyse(step(MADE_UP, 159.0), CEILINGS)  # ops add up to 174
    assert record.overhead_microseconds == pytest.approx(3.0)
    assert [op.microseconds for op in record.ops] == pytest.approx([1, 27, 47, 27, 57])
    assert sum(op.microseconds for op in record.ops) == pytest.approx(159) and record.host_microseconds == pytest.approx(0)
    assert [op.raw_microseconds for op in record.ops] == [4, 30, 50, 30, 60]
    # An overhead larger than an op leaves it a little, and the sum is still the step.
    record = analyse(step(MADE_UP, 74.0), CEILINGS)
    assert min(op.microseconds for op in record.ops) > 0 and sum(op.microseconds for op in record.ops) == pytest.approx(74)


def test_what_the_ops_do_not_explain_is_the_hosts():
    record = analyse(step(MADE_UP, 1000.0), CEILINGS)
    assert record.host_microseconds == pytest.approx(826) and record.bound == HOST
    assert sum(record.shares().values()) == pytest.approx(1000)


def test_a_chunk_may_use_matrix_units():
    one, many = analyse(step(MADE_UP, 174.0), CEILINGS), analyse(step(MADE_UP, 174.0, rows=64), CEILINGS)
    assert one.ops[2].arithmetic_microseconds == pytest.approx(40) and many.ops[2].arithmetic_microseconds == pytest.approx(4)


def test_the_hosts_part_in_tokens_per_second():
    host = HostPart(1e-5, 1e-3, 1.25e-3, 2e-3, 0.5e-3)
    assert [(round(seconds * 1e6), round(lost)) for _, seconds, lost in host.lost()] == [(250, 200), (750, 300), (500, 100)]


def test_trace_events_follow_each_other_and_add_up():
    record = analyse(step(MADE_UP, 1000.0), CEILINGS)
    trace = json.loads(json.dumps(chrome_trace("title", [record])))
    ops = [e for e in trace["traceEvents"] if e["ph"] == "X" and e["tid"] == 0]
    at = 0.0
    for event in ops:
        assert event["ts"] == pytest.approx(at) and event["dur"] > 0
        at += event["dur"]
    assert at == pytest.approx(1000) and ops[-1]["name"] == "device idle"
    layers = [(e["name"], e["ts"], e["dur"]) for e in trace["traceEvents"] if e["ph"] == "X" and e["tid"] == 1]
    assert layers == [("layer 0", 4.0, 80.0), ("layer 1", 84.0, 30.0)]


def test_uploads_are_a_row_of_the_trace_and_bind_what_waits_for_them():
    """174 us of ops. Of 1000 us, the 600 that uploads take alone are theirs and the rest the host's; of 474, all 300 that are left."""
    uploads = [("layer 0", 4000, 400.0, 1), ("layer 1", 2000, 200.0, 3)]
    record = analyse(step(MADE_UP, 1000.0, uploads=uploads), CEILINGS)
    assert record.upload_microseconds == pytest.approx(600) and record.host_microseconds == pytest.approx(226)
    assert record.bound == UPLOAD and sum(record.shares().values()) == pytest.approx(1000)
    beside = analyse(step(MADE_UP, 474.0, uploads=uploads), CEILINGS)
    assert [u.microseconds for u in beside.uploads] == pytest.approx([200, 100]) and beside.host_microseconds == 0

    events = [e for e in chrome_trace("title", [record])["traceEvents"] if e["ph"] == "X"]
    rows = {tid: [(e["name"], e["ts"], e["dur"]) for e in events if e["tid"] == tid] for tid in (0, 3)}
    assert rows[3] == [("layer 0", 4.0, pytest.approx(400)), ("layer 1", pytest.approx(484), pytest.approx(200))]
    assert [ts for _, ts, _ in rows[0][:5]] == pytest.approx([0, 404, 434, 684, 714])


def test_a_streamed_model_shows_its_uploads(gpu, tmp_path):
    done = invoke("--device", gpu, "-p", "0", "-r", "1", "--warm", "0", "--max-device-memory", "10MB", "--trace", str(tmp_path / "t.json"))
    assert done.exit_code == 0, done.output
    assert "weights on their way" in done.output
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert {e["name"] for e in events if e.get("cat") == "upload"} >= {"layer 1", "layer 2"}


def test_labels_of_the_bar_keep_their_distance():
    heights = _spread([1, 2, 2.5, 50, 99, 99.5, 100], 100)
    assert all(b - a >= 3.4 - 1e-9 for a, b in zip(heights, heights[1:], strict=False)) and max(heights) <= 100
    assert heights[3] == 50


def test_the_picture_is_written(tmp_path):
    record = analyse(step(MADE_UP, 180.0), CEILINGS)
    plot(tmp_path / "p.png", "title", [record, analyse(step(MADE_UP, 174.0, rows=64), CEILINGS)], CEILINGS)
    assert (tmp_path / "p.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


# ---- real ones ----


def check_step(record, subject):
    """What must hold whatever the times are."""
    work = subject.work(record.rows, record.sequences)
    assert record.n_bytes >= 0.98 * work.n_bytes  # and activations; rows of blocks may be padded
    assert record.n_bytes <= 1.5 * work.n_bytes + 20e6 * record.rows / 64
    n_operations = sum(op.n_operations for op in record.ops)
    assert work.n_operations <= n_operations * 1.01 and n_operations <= 1.2 * work.n_operations
    assert {op.layer for op in record.ops} == {-1, 0, 1, 2}
    assert sum(op.microseconds for op in record.ops) + record.host_microseconds == pytest.approx(record.step_microseconds)
    words = {word for op in record.ops for word in op.label.split(" ")}
    assert {"embed", "linear", "wkv7", "head"} <= words


@pytest.mark.parametrize("rows, sequences", [(1, 1), (3, 3), (16, 1)])
def test_cpu_steps_account_for_every_byte(rows, sequences):
    subject = random_subject("tiny:q4_k_m", "cpu", 1, "auto")
    record = profiling.profile_step(subject, CEILINGS, rows, sequences, 2, 0.0)
    check_step(record, subject)
    subject.close()


@pytest.mark.parametrize("rows", [1, 2])
def test_gpu_steps_account_for_every_byte(gpu_subject, rows):
    record = profiling.profile_step(gpu_subject, CEILINGS, rows, 1, 1, 0.0)
    assert record.timestamps
    check_step(record, gpu_subject)


def test_every_op_of_tiled_products_moves_bytes(gpu_subject):
    """Adding up the splits' sums too."""
    gpu_subject.engine.set_tuning("matmat=4,matmat_rows=2,matmat_threads=4000000")
    try:
        ops = {op["label"]: op for op in gpu_subject.engine.profile(4, 1, 1, 0.0)["ops"]}
    finally:
        gpu_subject.engine.set_tuning("")
    assert all(op["bytes"] > 0 for op in ops.values())
    product, reduce = ops["linear x"], ops["reduce linear x"]  # the last ones: of the value matrix
    outputs = 4 * 256 * 4  # rows x width, float32
    sums = reduce["bytes"] - 2 * outputs  # what it adds to, and the result
    assert sums >= 2 * outputs and sums % outputs == 0 and product["bytes"] > sums


def test_profiling_changes_no_result(gpu_subject):
    engine = gpu_subject.engine
    none = np.zeros(0, np.int32)
    before = engine.greedy(5, engine.new_state(), 6, none)
    profiling.profile_step(gpu_subject, CEILINGS, 1, 1, 1, 0.0)
    assert engine.greedy(5, engine.new_state(), 6, none) == before


def test_the_experiment_times_matrix_ops_and_leaves_the_engine_as_it_was(gpu_subject):
    engine, none = gpu_subject.engine, np.zeros(0, np.int32)
    before = engine.greedy(5, engine.new_state(), 6, none)
    record = profiling.profile_step(gpu_subject, CEILINGS, 1, 1, 1, 0.0)
    profiling.experiment(gpu_subject, record, 1, 0.0)
    for op in record.ops:
        expected = op.kind in ("linear", "heads_linear", "head", "mix_linear", "lora", "wkv7_rows")
        assert (op.plain_microseconds is not None) == (op.constant_microseconds is not None) == expected
    engine.set_tuning("experiment=2")  # the kernels are others: so are the results
    assert engine.greedy(5, engine.new_state(), 6, none) != before
    engine.set_tuning("experiment=1")
    assert engine.greedy(5, engine.new_state(), 6, none) != before
    engine.set_tuning("")
    assert engine.greedy(5, engine.new_state(), 6, none) == before


def test_without_timestamps_it_is_wall_clock_and_says_so(gpu, monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_DISABLE", "timestamps")
    got = invoke("--random", "tiny", "--device", gpu, "-r", "1", "--warm", "0", "-p", "0", "--json")
    assert got.exit_code == 0, got.stderr
    document = json.loads(got.stdout)
    assert document["steps"][0]["timestamps"] is False and "no timestamps" in got.stderr


def test_the_command_writes_table_trace_and_picture(tmp_path):
    gguf = tmp_path / "tiny.gguf"
    synthetic.make_model(gguf, n_vocab=600)
    trace, picture = tmp_path / "t.json", tmp_path / "p.svg"
    got = invoke("-m", str(gguf), "--device", "cpu", "-r", "2", "--warm", "0", "-b", "1,2", "-p", "16", "--ops", "--trace", str(trace), "--plot", str(picture))
    assert got.exit_code == 0, got.stderr
    assert "bound by" in got.stdout and "the host's part of a token" in got.stdout and "single ops" in got.stdout
    processes = [e["args"]["name"] for e in json.loads(trace.read_text())["traceEvents"] if e["name"] == "process_name"]
    assert [name.split(": ")[1] for name in processes] == ["one token", "one token of 2 sequences", "a prefill chunk of 16 tokens"]
    assert "<svg" in picture.read_text()


@pytest.mark.parametrize("args, message", [
    (("-b", "0"), "from 1 up"), (("-p", "1"), "from 2 up"), (("-p", "100000"), "at most"),
    (("-r", "0"), "-r: expected a whole number >= 1"), (("-r", "9" * 20), "got a number of 67 bits"), (("--warm", "nan"), "--warm"),
    (("--plot", "x.doc"), ".png, .svg, .pdf"),
    (("-b", "100000"), "at most"), (("--random", "tiny", "--random", "tiny"), "one model"), (("--experiment",), "cpu backend"),
    (("--trace", "/no/such/folder/x.json", "-r", "1", "--warm", "0", "-p", "0"), "no such folder"), (("-m", "missing.gguf"), "no such file"),
])
def test_bad_input_is_one_sentence(args, message):
    got = invoke("--device", "cpu", *args)
    assert got.exit_code == 2 and message in got.stderr and got.stdout == "", got.stderr


def test_a_picture_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    got = invoke("--random", "tiny", "--device", "cpu", "--plot", "x.png")
    assert got.exit_code == 2 and "rwkvnative[plot]" in got.stderr
