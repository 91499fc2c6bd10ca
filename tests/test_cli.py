"""The command line: in process for what it prints, as a real process for exit statuses, pipes and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import synthetic
from typer.testing import CliRunner

from rwkvnative import Model
from rwkvnative.cli import app
from rwkvnative.gguf_file import GgufFile

PATIENCE = 120  # seconds: for a machine with much else to do
posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process and no SIGPIPE")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("cli") / "tiny.gguf"
    synthetic.make_model(path, n_embd=256, n_vocab=600)
    with GgufFile(path) as file:
        head = file.tensors["output.weight"]
    with open(path, "r+b") as out:  # the end-of-text token gets logit 0, never the largest: greedy text is endless
        out.seek(head.offset)
        out.write(bytes(4 * 256))
    return str(path)


def invoke(*args: str, stdin: str | bytes | None = None):
    return CliRunner().invoke(app, list(args), input=stdin)


def start(*args: str, **options) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rwkvnative", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


# ---- generate ----


def test_generate_prints_what_the_api_gives(gguf: str) -> None:
    expected = Model(gguf, "cpu").generate("hello", 20, seed=1)
    result = invoke("generate", "hello", "-m", gguf, "-n", "20", "--seed", "1", "--device", "cpu")
    assert result.exit_code == 0
    assert result.stdout_bytes.decode() == f"hello{expected.text}\n".replace("\n", os.linesep)
    assert "20 new at" in result.stderr and "seed 1" in result.stderr
    bare = invoke("generate", "hello", "-m", gguf, "-n", "20", "--seed", "1", "--no-echo", "--quiet", "--device", "cpu")
    assert bare.stdout_bytes.decode() == f"{expected.text}\n".replace("\n", os.linesep) and bare.stderr == ""


def test_generate_json(gguf: str) -> None:
    expected = Model(gguf, "cpu").generate("hello", 20, seed=1)
    result = invoke("generate", "hello", "-m", gguf, "-n", "20", "--seed", "1", "--json", "--device", "cpu")
    report = json.loads(result.stdout)
    assert report["text"] == expected.text and report["tokens"] == expected.tokens
    assert report["finish_reason"] == expected.finish_reason and report["seed"] == 1
    assert report["tokens_per_second"] > 0 and report["device"] == "cpu"


def test_every_sampling_option_arrives(gguf: str) -> None:
    """Each changes the text of the same seed in the way that the API's parameter does."""
    model = Model(gguf, "cpu")
    plain = model.generate("hello", 24, seed=1).tokens
    options = {
        "temperature": 0.4, "top_p": 0.2, "top_k": 3, "min_p": 0.3, "typical_p": 0.2, "presence_penalty": 9.0,
        "frequency_penalty": 9.0, "repeat_penalty": 3.0, "mirostat": True,
    }  # fmt: skip
    for name, value in options.items():
        expected = model.generate("hello", 24, seed=1, **{name: value})
        args = [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
        got = json.loads(invoke("generate", "hello", "-m", gguf, "-n", "24", "--seed", "1", "--json", "--device", "cpu", *args).stdout)
        assert got["tokens"] == expected.tokens, name
        assert got["tokens"] != plain, f"{name} made no difference, so this test shows nothing"
    pairs = {
        "penalty_decay": ({"frequency_penalty": 9.0, "penalty_decay": 0.3}, {"frequency_penalty": 9.0}),
        "repeat_last_n": ({"repeat_penalty": 3.0, "repeat_last_n": 2}, {"repeat_penalty": 3.0}),
        "mirostat_tau": ({"mirostat": True, "mirostat_tau": 1.0}, {"mirostat": True}),
        "mirostat_eta": ({"mirostat": True, "mirostat_eta": 2.0}, {"mirostat": True}),
    }
    for name, (both, one) in pairs.items():
        expected = model.generate("hello", 24, seed=1, **both)
        args = [a for k, v in both.items() for a in ([f"--{k.replace('_', '-')}"] + ([] if v is True else [str(v)]))]
        got = json.loads(invoke("generate", "hello", "-m", gguf, "-n", "24", "--seed", "1", "--json", "--device", "cpu", *args).stdout)
        assert got["tokens"] == expected.tokens, name
        assert got["tokens"] != model.generate("hello", 24, seed=1, **one).tokens, name


def test_logit_bias_and_stop(gguf: str) -> None:
    result = invoke("generate", "hello", "-m", gguf, "-n", "5", "--json", "--logit-bias", "98=1000", "--logit-bias", "0=-inf")
    assert json.loads(result.stdout)["text"] == "aaaaa"
    result = invoke("generate", "hello", "-m", gguf, "-n", "5", "--json", "--logit-bias", "11=1000", "--stop", "never", "--stop", r"\n\n")
    report = json.loads(result.stdout)
    assert report["text"] == "" and report["finish_reason"] == "stop" and report["stop"] == "\n\n"


def test_prompt_sources(gguf: str, tmp_path: Path) -> None:
    args = ["-m", gguf, "-n", "5", "--seed", "1", "--quiet"]
    direct = invoke("generate", "hello wörld\n", *args).stdout
    assert direct.startswith("hello wörld\n")
    assert invoke("generate", "-", *args, stdin="hello wörld\n").stdout == direct
    (tmp_path / "p.txt").write_text("hello wörld\n", encoding="utf-8")
    assert invoke("generate", "--prompt-file", str(tmp_path / "p.txt"), *args).stdout == direct
    assert invoke("generate", *args).stdout.startswith("Once upon a time")


def test_state_files(gguf: str, tmp_path: Path) -> None:
    state = str(tmp_path / "s.st")
    first = invoke("generate", "hello", "-m", gguf, "-n", "6", "--temperature", "0", "--json", "--save-state", state)
    assert first.exit_code == 0
    resumed = invoke("generate", " world", "-m", gguf, "-n", "6", "--temperature", "0", "--json", "--state", state)
    model = Model(gguf)
    begin = model.generate("hello", 6, temperature=0)
    assert json.loads(resumed.stdout)["tokens"] == model.generate(" world", 6, temperature=0, state=begin.state).tokens


# ---- the other commands ----


def test_chat_from_a_pipe(gguf: str) -> None:
    result = invoke("chat", "-m", gguf, "-n", "6", "--seed", "1", "--json", "--system", "Be kind.", "--device", "cpu",
                    stdin="hello\n\n/reset\nhello\nbye\n/quit\nnever\n")  # fmt: skip
    assert result.exit_code == 0
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == 3
    assert answers[0]["text"] == answers[1]["text"], "/reset began the same conversation anew"
    session = Model(gguf, "cpu").chat_session("Be kind.", seed=1)
    assert answers[0]["text"] == session.send("hello", 6).text
    plain = invoke("chat", "-m", gguf, "-n", "6", "--seed", "1", "--system", "Be kind.", "--device", "cpu", stdin="hello\n")
    assert plain.stdout == answers[0]["text"] + "\n" and "tokens/s" in plain.stderr


def test_info(gguf: str) -> None:
    facts = json.loads(invoke("info", gguf, "--json", "--metadata", "--tensors").stdout)
    assert facts["architecture"] == "rwkv7" and facts["n_embd"] == 256 and facts["n_vocab"] == 600
    assert facts["n_parameters"] == sum(__import__("math").prod(t["shape"]) for t in facts["tensors"])
    assert facts["state_bytes"] == Model(gguf).new_state().nbytes
    assert facts["metadata"]["general.name"] == "synthetic" and len(facts["metadata"]["tokenizer.ggml.tokens"]) == 600
    text = invoke("info", "-m", gguf, "--metadata", "--tensors").stdout
    assert "rwkv7" in text and "600 values" in text and "blk.1.time_mix_key.weight" in text
    assert max(map(len, text.splitlines())) < 400


def test_devices() -> None:
    listed = json.loads(invoke("devices", "--json").stdout)
    assert "cpu" in [d["device"] for d in listed]
    assert "cpu" in invoke("devices").stdout


def test_tokenize(gguf: str) -> None:
    tokenizer = Model(gguf).tokenizer
    report = json.loads(invoke("tokenize", "hello wörld 🙂", "-m", gguf, "--json").stdout)
    assert report["ids"] == tokenizer.encode("hello wörld 🙂") and report["text"] == "hello wörld 🙂"
    assert report["n_tokens"] == len(report["pieces"]) == len(report["ids"])
    lines = invoke("tokenize", "-", "-m", gguf, stdin="hello").stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == tokenizer.encode("hello")
    ids = [str(i) for i in report["ids"]]
    assert invoke("tokenize", "--decode", "-m", gguf, *ids).stdout == "hello wörld 🙂\n"
    assert invoke("tokenize", "--decode", "-m", gguf, ",".join(ids)).stdout == "hello wörld 🙂\n"
    assert invoke("tokenize", "--decode", "-m", gguf, "-", stdin="\n".join(ids)).stdout == "hello wörld 🙂\n"


def test_quantize(gguf: str, tmp_path: Path) -> None:
    out = tmp_path / "q.gguf"
    result = invoke("quantize", gguf, str(out), "--type", "q4_k_m", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["target_bytes"] == out.stat().st_size < report["source_bytes"]
    assert "Q4_K" in json.loads(invoke("info", str(out), "--json").stdout)["tensor_types"]
    assert invoke("generate", "hello", "-m", str(out), "-n", "5").exit_code == 0
    line = invoke("quantize", gguf, str(tmp_path / "r.gguf"), "--type", "q8_0").stdout
    assert "Q8_0" in line and "MB" in line


def test_help_and_version() -> None:
    assert "generate" in invoke("--help").stdout
    for name in ("generate", "chat", "info", "devices", "tokenize", "quantize"):
        result = invoke(name, "--help")
        assert result.exit_code == 0 and "--help" in result.stdout
    import rwkvnative

    assert invoke("--version").stdout.strip() == rwkvnative.__version__


# ---- bad input: status 2, one sentence, no traceback ----


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["generate", "x", "-m", "/no/such/file.gguf"], "no such file"),
        (["generate", "x", "-m", "{dir}"], "directory"),
        (["generate", "x", "-m", "{empty}"], "empty"),
        (["generate", "x", "-m", "{text}"], "not a GGUF"),
        (["generate", "x", "-m", "{cut}"], "truncated"),
        (["generate", "x", "-m", "{llama}"], "not RWKV"),
        (["generate", "", "-m", "{gguf}"], "prompt is empty"),
        (["generate", "x", "-m", "{gguf}", "--device", "tpu"], "tpu"),
        (["generate", "x", "-m", "{gguf}", "--threads", "0"], "n_threads"),
        (["generate", "x", "-m", "{gguf}", "--numerics", "f64"], "numerics"),
        (["generate", "x", "-m", "{gguf}", "-n", "-3"], "max_tokens"),
        (["generate", "x", "-m", "{gguf}", "--temperature", "nan"], "temperature"),
        (["generate", "x", "-m", "{gguf}", "--top-p", "7"], "top_p"),
        (["generate", "x", "-m", "{gguf}", "--mirostat", "--top-k", "7"], "mirostat takes the place"),
        (["generate", "x", "-m", "{gguf}", "--logit-bias", "5"], "ID=VALUE"),
        (["generate", "x", "-m", "{gguf}", "--logit-bias", "5=nan"], "nan"),
        (["generate", "x", "-m", "{gguf}", "--logit-bias", "9999=1"], "9999"),
        (["generate", "x", "-m", "{gguf}", "--stop", ""], "empty string"),
        (["generate", "x", "-m", "{gguf}", "--state", "/no/such/state"], "no such file"),
        (["generate", "x", "-m", "{gguf}", "--state", "{text}"], "not a state file"),
        (["generate", "x", "-m", "{gguf}", "--state", "{foreign}"], "another model"),
        (["generate", "x", "--prompt-file", "{text}"], "not both"),
        (["generate", "--prompt-file", "/no/such/prompt"], "cannot read"),
        (["chat", "-m", "/no/such/file.gguf"], "no such file"),
        (["info", "/no/such/file.gguf"], "no such file"),
        (["info", "{text}"], "not a GGUF"),
        (["info", "{gguf}", "-m", "{gguf}"], "once"),
        (["tokenize", "x", "-m", "{text}"], "not a GGUF"),
        (["tokenize", "--decode", "x", "-m", "{gguf}"], "token ids"),
        (["tokenize", "--decode", "99999", "-m", "{gguf}"], "out of range"),
        (["tokenize", "--decode", "9" * 30, "-m", "{gguf}"], "token id of 100 bits is out of range; expected 0 to 599"),
        (["info", ""], "expected a path, got ''"),
        (["generate", "x", "-m", ""], "expected a path, got ''"),
        (["quantize", "/no/such/file.gguf", "{dir}/o.gguf"], "no such file"),
        (["quantize", "{gguf}", "{dir}/o.gguf", "--type", "q9"], "q9"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_input(gguf: str, tmp_path: Path, args: list[str], sentence: str) -> None:
    data = Path(gguf).read_bytes()
    (tmp_path / "dir").mkdir()
    files = {"empty": b"", "text": b"just some text, long enough to be read", "cut": data[: len(data) // 2]}
    names = {"gguf": gguf, "dir": str(tmp_path / "dir")}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        names[name] = str(tmp_path / name)
    if "{llama}" in args:
        synthetic.make_model(tmp_path / "llama", metadata={"general.architecture": "llama"})
        names["llama"] = str(tmp_path / "llama")
    if "{foreign}" in args:
        synthetic.make_model(tmp_path / "other", n_embd=256, n_vocab=600, seed=9)
        Model(tmp_path / "other").new_state().save(tmp_path / "foreign")
        names["foreign"] = str(tmp_path / "foreign")
    result = invoke(*(arg.format(**names) for arg in args))
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and "Traceback" not in result.stderr


def test_usage_errors_are_status_2() -> None:
    for args in (["generate", "--no-such-option"], ["generate", "-n", "many"], ["no-such-command"], ["quantize", "one"]):
        result = invoke(*args)
        assert result.exit_code == 2 and "Traceback" not in result.output


# ---- as a process ----


def test_process_status_and_streams(gguf: str) -> None:
    process = start("generate", "hello", "-m", gguf, "-n", "5", "--seed", "1", "--json")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and json.loads(out)["seed"] == 1 and err == b""
    process = start("generate", "hello", "-m", "/no/such/file")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and out == b"" and err.startswith(b"error: ") and err.count(b"\n") == 1


def test_stdout_that_cannot_spell_the_text(gguf: str) -> None:
    process = start("generate", "hello 你好", "-m", gguf, "-n", "20", env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and out.startswith(b"hello ??"), err


# The program, but that it says on stderr when the work has come so far: then no module is being imported any more. (A Ctrl-C
# meanwhile can get lost: Python ignores exceptions in the weakref callbacks of its import locks.)
WATCHED = """
import sys
from rwkvnative import cli, streaming
from rwkvnative.cli import terminal

def report(owner, name, wanted):
    inner = getattr(owner, name)
    def outer(self, *args):
        if wanted(self):
            setattr(owner, name, inner)
            print("now", file=sys.stderr, flush=True)
        return inner(self, *args)
    setattr(owner, name, outer)

if sys.argv.pop(1) == "token":
    report(streaming.TextAssembler, "push", lambda self: len(self.text) > 50)
else:
    report(terminal.ProgressBar, "__call__", lambda self: self._title == "reading the prompt")
cli.main()
"""


def start_and_wait_for(what: str, *args: str) -> subprocess.Popen[bytes]:
    """A process that has made some text ("token") or read a part of its prompt ("chunk")."""
    command = [sys.executable, "-c", WATCHED, what, *args]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    if (line := process.stderr.readline()) != b"now\n":
        process.kill()
        pytest.fail(f"it ended before: {(line + process.stderr.read()).decode()}")
    return process


def interrupt(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert b"Traceback" not in err
    return out, err


@posix_only
def test_ctrl_c_while_modules_are_imported() -> None:
    """No traceback: the signal ends the process, which a shell shows as status 130."""
    code = """
import signal, sys
from rwkvnative.__main__ import main

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            signal.raise_signal(signal.SIGINT)

wanted = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupt())
main()
"""
    for module, status in (("rwkvnative.cli", -signal.SIGINT), ("typer", -signal.SIGINT), ("rwkvnative.gguf_file", 130)):
        done = subprocess.run([sys.executable, "-c", code, module, "info"], capture_output=True, timeout=PATIENCE, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (status, b"", b""), module


@posix_only
def test_a_command_that_is_ended_leaves_no_half_of_a_file(gguf: str, tmp_path: Path) -> None:
    code = """
import os, signal, sys
from rwkvnative import __main__, files
inner = files.NewFile.write
def write(self, data):
    inner(self, data)
    if self.n_bytes > 100000:
        assert len(os.listdir(sys.argv[3].rpartition("/")[0])) == 1
        signal.raise_signal(number)
files.NewFile.write = write
number = int(sys.argv.pop(1))
__main__.main()
"""
    for number, status in ((signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)):
        command = [sys.executable, "-c", code, str(int(number)), "quantize", gguf, str(tmp_path / "q.gguf"), "--type", "f16"]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (status, b"", b""), number
        assert os.listdir(tmp_path) == []


@posix_only
def test_ctrl_c_while_sampling(gguf: str) -> None:
    process = start("generate", "hello", "-m", gguf, "-n", "100000000", "--logit-bias", "0=-inf")
    assert process.stdout is not None
    begin = process.stdout.read(50)
    out, err = interrupt(process)
    assert begin.startswith(b"hello") and out.endswith(b"\n") and b"interrupted" in err


@posix_only
def test_ctrl_c_while_the_device_decodes_alone(gguf: str) -> None:
    process = start("generate", "hello", "-m", gguf, "-n", "100000000", "--temperature", "0")
    assert process.stdout is not None
    begin = process.stdout.read(500)
    out, err = interrupt(process)
    assert begin.startswith(b"hello") and out.endswith(b"\n") and b"interrupted" in err


@posix_only
def test_ctrl_c_gives_the_json_of_what_there_is(gguf: str) -> None:
    process = start_and_wait_for("token", "generate", "hello", "-m", gguf, "-n", "100000000", "--json", "--logit-bias", "0=-inf")
    out, _ = interrupt(process)
    report = json.loads(out)
    assert report["finish_reason"] == "cancelled" and len(report["tokens"]) > 0 and report["text"]


@posix_only
def test_ctrl_c_while_the_prompt_is_read(gguf: str, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text("hello world " * 1_000_000)
    process = start_and_wait_for("chunk", "generate", "--prompt-file", str(tmp_path / "prompt"), "-m", gguf, "--device", "cpu")
    out, err = interrupt(process)  # reading all of the prompt takes longer than the patience there
    assert out == b"\n" and b"0 new" in err


@posix_only
def test_reader_that_goes_away(gguf: str) -> None:
    process = start("generate", "hello", "-m", gguf, "-n", "100000000", "--logit-bias", "0=-inf")
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.read(5) == b"hello"
    process.stdout.close()
    assert process.wait(timeout=PATIENCE) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


@posix_only
def test_chat_at_a_terminal(gguf: str) -> None:
    """Line editing, an answer that Ctrl-C cuts short, and Ctrl-C at the prompt, which ends."""
    import pty

    keyboard, terminal = pty.openpty()
    process = start("chat", "-m", gguf, "-n", "100000000", "--logit-bias", "0=-inf", "--logit-bias", "261=-inf",
                    "--logit-bias", "11=-inf", stdin=terminal, start_new_session=True)  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    os.close(terminal)
    try:
        greeting = process.stderr.readline()
        assert b"synthetic on" in greeting and b"/quit" in greeting
        os.write(keyboard, b"hello\n")
        assert len(process.stdout.read(300)) == 300
        process.send_signal(signal.SIGINT)
        assert b"interrupted" in process.stderr.readline()
        os.write(keyboard, b"/help\n")
        assert b"/reset" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130 and b"Traceback" not in err
    finally:
        process.kill()
        os.close(keyboard)


def test_progress_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing for work that is soon done or where nobody looks; a bar for the rest, gone when the work is."""
    from rwkvnative.cli.terminal import ProgressBar

    with ProgressBar("loading") as progress:
        progress(1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(ProgressBar, "_PATIENCE", float(PATIENCE))
    with ProgressBar("loading") as progress:
        progress(1, 2)
    assert capsys.readouterr().err == "", "it has only just begun"
    monkeypatch.setattr(ProgressBar, "_PATIENCE", 0.0)
    with ProgressBar("loading") as progress:
        progress(1, 2)
        shown, end = "", time.monotonic() + PATIENCE
        while "50%" not in shown and time.monotonic() < end:  # a thread of the bar's own draws it
            time.sleep(0.05)
            shown += capsys.readouterr().err
        assert "loading" in shown and "50%" in shown
        progress(2, 2)
        assert capsys.readouterr().out == ""
        print("after", file=sys.stderr)
        time.sleep(0.2)  # where the bar would draw itself again
        assert capsys.readouterr().err == "after\n", "the bar must be gone before anything else is printed"


def test_embedded_model() -> None:
    """The first command of the README: no arguments, no network, English out."""
    first = invoke("generate", "--seed", "1", "-n", "60", "--device", "cpu")
    assert first.exit_code == 0, first.stderr
    assert first.stdout.startswith("Once upon a time")
    words = first.stdout.split()
    assert len(words) > 25 and all(ord(c) < 128 for c in first.stdout)
    assert invoke("generate", "--seed", "1", "-n", "60", "--device", "cpu").stdout == first.stdout
    facts = json.loads(invoke("info", "--json").stdout)
    assert facts["architecture"] == "rwkv7" and facts["file_bytes"] <= 10_000_000
    answer = invoke("chat", "--seed", "1", "--quiet", "--device", "cpu", stdin="Tell me a story.\n")
    assert answer.exit_code == 0 and len(answer.stdout.split()) > 10


def test_import_is_cheap() -> None:
    """What only some calls need is not loaded by the import: the package is used in scripts that start often."""
    code = "import sys, rwkvnative; print([m for m in ('numpy', 'gguf', 'typer', 'rich', 'jinja2', 'tokenizers', 'safetensors') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert out.stdout.strip() == "[]"
    code = "import sys; from rwkvnative import Model; print([m for m in ('typer', 'rich', 'jinja2', 'tokenizers', 'safetensors') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert out.stdout.strip() == "[]"
