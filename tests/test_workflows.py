"""The workflows in .github, which no machine here runs: well-formed, and what they call exists. And the command that README
asks a Mac's owner for."""

from __future__ import annotations

import fnmatch
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rwkvnative.cli import app

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# Of GitHub's documentation, what we use: https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax
KEYS = {"name", "on", "permissions", "concurrency", "jobs"}
JOB_KEYS = {"name", "if", "runs-on", "container", "timeout-minutes", "strategy", "steps"}
STEP_KEYS = {"name", "if", "uses", "with", "run", "env", "shell", "working-directory"}
CONTEXTS = {"github", "matrix", "runner"}

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="a source distribution has no .github")


def load(path: Path) -> dict:
    return yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # "on" is a key, not true


def jobs() -> list[tuple[str, dict]]:
    return [(f"{path.stem}: {name}", job) for path in WORKFLOWS for name, job in load(path)["jobs"].items()]


def scripts(job: dict) -> list[str]:
    """Of each step; expressions as a word."""
    return [re.sub(r"\$\{\{.*?\}\}", "EXPRESSION", step["run"]) for step in job["steps"] if "run" in step]


def commands(script: str) -> list[list[str]]:
    """The commands of a script, without pipes and redirections."""
    lines = script.replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"\||;|&&|>+", line)]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


def complaint(words: list[str]) -> str:
    """What `rwkvnative` has against these arguments; empty if nothing. (--help, which it does instead, is parsed with them.)"""
    result = CliRunner().invoke(app, [*words[1:], "--help"])
    return result.output if result.exit_code else ""


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_keys(path):
    workflow = load(path)
    assert {"name", "on", "permissions", "jobs"} <= set(workflow) <= KEYS
    for event in workflow["on"]:
        assert event in ("push", "pull_request", "workflow_dispatch")
    for job in workflow["jobs"].values():
        assert {"runs-on", "steps"} <= set(job) <= JOB_KEYS
        for step in job["steps"]:
            assert set(step) <= STEP_KEYS and ("run" in step) != ("uses" in step), step
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+(\.\d+)*", step["uses"]), step
            assert "with" not in step or "uses" in step, step


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_expressions(path):
    """Each names a context that exists, and of the matrix what the job's matrix has."""
    for job in load(path)["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        names = set(matrix) - {"include"} | {key for entry in matrix.get("include", []) for key in entry}
        for expression in re.findall(r"\$\{\{(.*?)\}\}", yaml.safe_dump(job)):
            for context, name in re.findall(r"([a-z]+)\.([\w-]+)", expression):
                assert context in CONTEXTS and (context != "matrix" or name in names), expression


@pytest.mark.parametrize("job", [pytest.param(job, id=name) for name, job in jobs()])
def test_scripts(job):
    """Bash can parse them; files of ours that they name are there; commands of ours take these arguments."""
    for script in scripts(job):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        for words in commands(script):
            for word in words:
                if re.match(r"(tests|csrc|\.ci|cmake|python)/", word):
                    assert list(ROOT.glob(word)), word
            if Path(words[0]).name == "rwkvnative":
                assert complaint(words) == ""


def test_metal_workflow_does_what_it_is_for():
    """It builds, and on a GPU runs selftest, the parity tests there, and bench, and keeps what they print."""
    job = load(ROOT / ".github/workflows/metal.yml")["jobs"]["gpu"]
    found = [words for script in scripts(job) for words in commands(script)]
    ours = {words[1] for words in found if words[0] == "rwkvnative"}
    assert {"selftest", "bench", "generate", "devices"} <= ours
    assert any("pip" in words[0] and "install" in words for words in found)
    tests, = (step for step in job["steps"] if "pytest" in step.get("run", ""))
    assert tests["env"]["RWKVNATIVE_TEST_DEVICES"] == "metal:0"
    upload, = (step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact"))
    written = [words[1].replace("$RUNNER_TEMP/", "") for words in found if words[0] == "tee"]
    assert len(written) >= 4 and all(fnmatch.fnmatch(name, upload["with"]["path"].rpartition("/")[2]) for name in written)
    # A pipe's status is its last command's, tee's, unless the shell is named (then GitHub adds pipefail).
    assert all(step.get("shell") == "bash" for step in job["steps"] if "| tee" in step.get("run", "") and "grep -q" not in step["run"])


def test_readme_says_what_metal_has_been_through():
    text = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    assert "kernels executed and race-checked in emulation" in text
    assert "API checked against Apple-derived metadata" in text
    assert "never run on Apple hardware" in text


@pytest.mark.parametrize("path", ["README.md", "tests/metal/README.md"])
def test_the_one_command_for_a_mac(path):
    """The same in both places, and the package has it."""
    line, = re.findall(r"rwkvnative selftest --device metal[^`\n]*", (ROOT / path).read_text())
    assert line == "rwkvnative selftest --device metal; rwkvnative bench --random 2.9b:q4_k_m"
    for words in commands(line):
        assert complaint(words) == ""


def test_a_wrong_command_is_noticed():
    assert "--no-such-option" in complaint(["rwkvnative", "bench", "--no-such-option"])
    assert "no-such-command" in complaint(["rwkvnative", "no-such-command"])
