"""The command line where stdin, stdout or a file is not what one hopes for: full, closed, missing, not text."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import synthetic
from typer.testing import CliRunner

from rwkvnative.cli import app
from rwkvnative.cli.batch import read_prompts
from rwkvnative.cli.tables import print_table
from rwkvnative.errors import InputError

posix_only = pytest.mark.skipif(os.name == "nt", reason="a shell and /dev/full")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("streams") / "tiny.gguf"
    synthetic.make_model(path, n_layer=1, n_vocab=300)
    return str(path)


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Runs `command`, in which RUN stands for the program."""
    command = command.replace("RUN", f"{sys.executable} -m rwkvnative")
    environment = {**os.environ, "PYTHONUNBUFFERED": "", **environment}  # not as some containers set it, where less can fail late
    return subprocess.run(["sh", "-c", command], capture_output=True, timeout=300, env=environment, check=False)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["--version", "--help", "info {gguf}", "generate hello -n 2 --device cpu -m {gguf}"])
def test_a_full_disk(gguf: str, command: str) -> None:
    got = shell(f"RUN {command} > /dev/full".format(gguf=gguf))
    assert got.returncode == 2 and got.stderr.splitlines()[-1] == b"error: standard output: No space left on device", got.stderr
    assert b"Traceback" not in got.stderr and b"Exception" not in got.stderr


@posix_only
def test_streams_that_are_closed(gguf: str, tmp_path: Path) -> None:
    """Nothing can be read from them, and what is printed is lost; a file that is opened must not become one of them."""
    got = shell(f"RUN generate - -m {gguf} <&-")
    assert got.returncode == 2 and b"prompt is empty" in got.stderr and b"Traceback" not in got.stderr
    state = tmp_path / "state"
    got = shell(f"RUN generate hello -n 2 --device cpu -m {gguf} --save-state {state} <&- >&- 2>&-")
    assert got.returncode == 0 and state.stat().st_size > 0 and b"tokens/s" not in state.read_bytes()


@posix_only
def test_stdin_that_cannot_be_read(gguf: str) -> None:
    for command in (f"generate - -m {gguf}", f"tokenize - -m {gguf}", f"chat --device cpu -m {gguf}"):
        got = shell(f"RUN {command} 0>/dev/null")  # open for writing only
        assert got.returncode == 2 and b"standard input: cannot read: Bad file descriptor" in got.stderr, got.stderr


@posix_only
def test_stdin_that_is_no_text(gguf: str) -> None:
    got = shell(f"printf '\\377 a' | RUN tokenize - --json -m {gguf}", PYTHONIOENCODING="utf-8:strict")
    assert got.returncode == 0 and json.loads(got.stdout)["n_tokens"] == 3, got.stderr


def test_lines_of_prompts_end_at_line_ends_only(tmp_path: Path) -> None:
    """JSON allows U+2028 and others in a string; Python's splitlines() cuts there. And an editor's byte order mark is no text."""
    path = tmp_path / "p.jsonl"
    path.write_text('\ufeff"a\u2028b\x85c"\r\n\n{"prompt": "d\x1ce"}\n'.replace("\x1c", "\\u001c"), encoding="utf-8")
    assert read_prompts(str(path)) == ["a\u2028b\x85c", {"prompt": "d\x1ce"}]
    (tmp_path / "p.txt").write_text("a\x0cb\nc\u2029d\n", encoding="utf-8")
    assert read_prompts(str(tmp_path / "p.txt")) == ["a\x0cb", "c\u2029d"]
    path.write_text('"a"\n' + "[" * 100_000)
    with pytest.raises(InputError, match="p.jsonl, line 2"):
        read_prompts(str(path))


def test_what_cannot_be_written_is_told_before_the_work(gguf: str, tmp_path: Path) -> None:
    got = CliRunner().invoke(app, ["generate", "hello", "-m", gguf, "--save-state", str(tmp_path / "no" / "x")])
    assert got.exit_code == 2 and "no such folder" in got.stderr and got.stdout == ""


def test_a_file_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = str(tmp_path / "m.gguf")
    synthetic.make_model(path, n_layer=1, n_vocab=300, metadata={"general.name": "evil\x1b[2J\nline"})
    for args in (["info", path, "--metadata"], ["bench", "-m", path, "-p", "0", "-n", "1", "-r", "1", "--warm", "0", "--md", "--device", "cpu"]):
        got = CliRunner().invoke(app, args)
        assert got.exit_code == 0 and "\x1b" not in got.output and r"evil\x1b[2J\nline" in got.stdout, got.output


def test_a_narrow_terminal_loses_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    print_table(["model", "tok/s", "of"], [["a-model-with-a-long-name", "12345.6", "98.7"]])
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    letters = "".join(c for c in text if c.isalnum() or c in ".-")
    assert sorted(letters) == sorted("modeltoksof" + "a-model-with-a-long-name" + "12345.6" + "98.7")


def test_a_warning_is_a_line(gguf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_file(path: str) -> None:
        warnings.warn("mind the gap", stacklevel=1)
        raise InputError("end")

    monkeypatch.setattr("rwkvnative.cli.inspect._open_file", open_file)
    got = CliRunner().invoke(app, ["info", gguf])
    assert got.stderr.splitlines() == ["warning: mind the gap", "error: end"]
