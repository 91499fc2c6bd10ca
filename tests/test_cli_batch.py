"""``rwkvnative generate --prompts-file``: many prompts, as texts and as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import synthetic
from test_cli import interrupt, invoke, posix_only, start_and_wait_for

from rwkvnative import Model


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("cli") / "tiny.gguf"
    synthetic.make_model(path, n_embd=64, n_vocab=600)
    return str(path)


def test_texts_come_in_the_order_of_the_file(gguf: str, tmp_path: Path) -> None:
    prompts = ["hello", "a fox", "a wörld"]
    (tmp_path / "p.txt").write_text("hello\n\na fox\na wörld\n", encoding="utf-8")
    args = ["-m", gguf, "-n", "9", "--seed", "1", "--device", "cpu", "--numerics", "f32"]
    result = invoke("generate", "--prompts-file", str(tmp_path / "p.txt"), "--batch-size", "2", *args)
    assert result.exit_code == 0
    texts = [r.text for r in Model(gguf, "cpu", numerics="f32").generate(prompts, 9, seed=1)]
    assert result.stdout == "".join(f"{p}{t}\n\n" for p, t in zip(prompts, texts, strict=True))
    assert "3 prompts" in result.stderr and "27 new" in result.stderr
    bare = invoke("generate", "--prompts-file", "-", "--no-echo", "-q", *args, stdin="hello\na fox\na wörld")
    assert bare.stdout == "".join(f"{t}\n\n" for t in texts) and bare.stderr == ""


def test_json_lines_in_and_out(gguf: str, tmp_path: Path) -> None:
    model = Model(gguf, "cpu", numerics="f32")
    model.forward([7, 8])[1].save(tmp_path / "s.st")
    lines = ["hello", {"prompt": "hello", "max_tokens": 4, "temperature": 0}, {"prompt": [20, 30], "seed": 9, "stop": ["e", 5]},
             {"prompt": "x", "logit_bias": {"7": 60.0}, "state": str(tmp_path / "s.st")}]  # fmt: skip
    (tmp_path / "p.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    result = invoke("generate", "--prompts-file", str(tmp_path / "p.jsonl"), "-m", gguf, "-n", "12", "--seed", "1", "--json",
                    "--device", "cpu", "--numerics", "f32")  # fmt: skip
    assert result.exit_code == 0, result.output
    reports = {r["index"]: r for r in map(json.loads, result.stdout.splitlines())}
    assert sorted(reports) == [0, 1, 2, 3]
    _, state = model.forward([7, 8])
    own = [{"seed": 1}, {"max_tokens": 4, "temperature": 0}, {"seed": 9, "stop": ["e", 5]},
           {"seed": 4, "logit_bias": {7: 60.0}, "state": state}]  # fmt: skip
    for i, (prompt, options) in enumerate(zip(["hello", "hello", [20, 30], "x"], own, strict=True)):
        expected = model.generate(prompt, **{"max_tokens": 12, **options})
        assert (reports[i]["tokens"], reports[i]["text"], reports[i]["finish_reason"]) == (
            expected.tokens, expected.text, expected.finish_reason)  # fmt: skip


@pytest.mark.parametrize(("name", "content", "args", "sentence"), [
    ("p.txt", " \n\n", [], "at least one prompt"),
    ("p.jsonl", '"a"\n{"prompt"', [], "line 2"),
    ("p.jsonl", '"a"\n7', [], "line 2: expected a string or an object"),
    ("p.jsonl", '{"prompt": "a", "temprature": 1}', [], "line 1: unknown option 'temprature'"),
    ("p.jsonl", '{"prompt": "a", "logit_bias": {"x": 1}}', [], "line 1: "),
    ("p.jsonl", '"a"\n{"prompt": "a", "top_p": 7}', ["-m", "{gguf}"], "prompt 1: "),
    ("p.jsonl", '{"prompt": "a", "state": "/no/such/state"}', ["-m", "{gguf}"], "no such file"),
    ("p.txt", "a", ["hello"], "neither a prompt"),
    ("p.txt", "a", ["--save-state", "x"], "neither a prompt"),
    ("p.txt", "a", ["--batch-size", "0", "-m", "{gguf}"], "batch_size"),
    (None, "", ["x", "--batch-size", "2"], "--batch-size is for --prompts-file"),
    (None, "", ["--prompts-file", "/no/such/file"], "cannot read"),
])  # fmt: skip
def test_bad_input(gguf: str, tmp_path: Path, name: str | None, content: str, args: list[str], sentence: str) -> None:
    files = [] if name is None else ["--prompts-file", str(tmp_path / name)]
    if name is not None:
        (tmp_path / name).write_text(content)
    result = invoke("generate", *files, *(a.format(gguf=gguf) for a in args))
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and result.stderr.startswith("error: ") and sentence in result.stderr


@posix_only
def test_ctrl_c_gives_what_there_is(gguf: str, tmp_path: Path) -> None:
    (tmp_path / "prompts").write_text("hello\na fox\n")
    process = start_and_wait_for("token", "generate", "--prompts-file", str(tmp_path / "prompts"), "-m", gguf, "-n", "100000000", "--json",
                                 "--logit-bias", "0=-inf")  # fmt: skip
    out, _ = interrupt(process)
    reports = [json.loads(line) for line in out.splitlines()]
    assert [r["index"] for r in reports] == [0, 1]
    assert all(r["finish_reason"] == "cancelled" and r["tokens"] for r in reports)
