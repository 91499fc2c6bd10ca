"""benchmarks/plot_batches.py draws what the package's commands print."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
from rwkvnative.bench.record import Report, Result

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "plot_batches.py"
DEVICE = {"device": "cpu", "device_name": "2 threads", "backend": "cpu", "kind": "cpu", "features": [], "n_threads": 2}
LENGTHS = (16, 64, 1024, 4096)


def result(test: str, n_tokens: int, model: str = "m") -> Result:
    return Result(model, "F32", 1000, "auto", test, n_tokens, 1, 1, [0.5])


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """bench: prompts only; two: of two models; tune: chunk lengths; other: none of these."""
    files = {name: tmp_path / f"{name}.json" for name in ("bench", "two", "tune", "other")}
    prompts = [result(f"pp{n}", n) for n in LENGTHS]
    files["bench"].write_text(Report(DEVICE, {}, prompts).json())
    files["two"].write_text(Report(DEVICE, {}, [*prompts, result("pp16", 16, "n")]).json())
    files["tune"].write_text(json.dumps({"chunks": [{"rows": n, "tokens_per_second": 7.0 * n} for n in (32, 64)]}))
    files["other"].write_text("no figures")
    return files


@pytest.fixture
def draw(monkeypatch):
    def run(picture: Path, *series: str) -> None:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(picture), *series])
        runpy.run_path(str(SCRIPT), run_name="__main__")

    return run


def test_prompts_alone_and_beside_chunks(files, tmp_path, draw):
    """Matplotlib notes in an SVG, as a comment, each text that it draws."""
    for series, panels, figures in (
        ([f"now={files['bench']}"], ["tokens of a prompt"], [2 * n for n in LENGTHS]),
        ([f"now={files['bench']}", f"tuned={files['tune']}"], ["tokens of a prompt", "tokens of a prompt's chunk"], [*(2 * n for n in LENGTHS), 224, 448]),
    ):  # fmt: skip
        draw(tmp_path / "picture.svg", *series)
        texts = re.findall(r"<!-- (.*?) -->", (tmp_path / "picture.svg").read_text())
        assert [t for t in texts if t.startswith(("tokens of", "sequences"))] == panels
        assert {str(n) for n in figures} | {str(n) for n in LENGTHS} | {"now"} <= set(texts)


@pytest.mark.parametrize(("name", "why"), [("two", "expected one model, got m, n"), ("other", "expected output of webgpu_batch.py")])
def test_what_cannot_be_drawn(files, tmp_path, draw, name, why):
    with pytest.raises(SystemExit, match=f"{re.escape(str(files[name]))}: {why}"):
        draw(tmp_path / "picture.svg", f"now={files[name]}")
    assert not (tmp_path / "picture.svg").exists()
