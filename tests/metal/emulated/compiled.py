"""Kernels that were compiled before: by the build (cmake/metal_libraries.py, with a compiler of the software device's), and by an
earlier process (archives). Whatever is wrong with them, the embedded texts are compiled instead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from engines import open_engine, tokens_of
from synthetic import build_model

ROOT = Path(__file__).resolve().parents[3]
MODEL = dict(n_embd=64, n_layer=1, type="F32", seed=1)
# Takes what Xcode's `metal` and `metallib` take, and writes what the software device loads.
XCRUN = """#!/bin/sh
set -e
case "$1 $2 $3" in "-sdk macosx metal") for o in -std=metal3.0 -fno-fast-math -c; do case " $* " in *" $o "*) ;; *) exit 3;; esac; done;; esac
tool=$3
for word; do [ "$last" = -o ] && out=$word; case $word in *.metal|*.air) [ "$last" = -o ] || in=$word;; esac; last=$word; done
case $tool in
  metal) cp "$in" "$out" ;;
  metallib) { echo "software metallib"; cat "$in"; } > "$out" ;;
  *) exit 4 ;;
esac
"""


def logits() -> np.ndarray:
    engine = open_engine(build_model(**MODEL), "metal")
    return engine.forward(tokens_of([1, 2]), None, engine.new_state(), "last")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("libraries")
    tools = tmp_path_factory.mktemp("tools")
    (tools / "xcrun").write_text(XCRUN)
    (tools / "xcrun").chmod(0o755)
    subprocess.run([sys.executable, ROOT / "cmake/metal_libraries.py", ROOT / "csrc", folder], check=True,
                   env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"})
    return folder


@pytest.fixture(scope="module")
def expected():
    return logits()


def test_libraries_of_the_build(soft, libraries, expected, monkeypatch):
    assert {p.stem for p in libraries.glob("*.metallib")} == {p.stem for p in (ROOT / "csrc/metal/kernels").glob("*.metal")}
    monkeypatch.setenv("RWKVNATIVE_METAL_LIBRARIES", str(libraries))
    before = soft.loaded_libraries()
    assert np.array_equal(logits(), expected)
    assert soft.loaded_libraries() > before + 2


def test_a_compiler_that_fails(expected, monkeypatch, tmp_path):
    """The package is built nonetheless: its kernels are compiled at run time then."""
    folder, tools = tmp_path / "libraries", tmp_path / "tools"
    tools.mkdir()
    (tools / "xcrun").write_text(XCRUN.replace("cp \"$in\"", "case $in in *q4_k*) exit 1;; esac; cp \"$in\""))
    (tools / "xcrun").chmod(0o755)
    command = [sys.executable, ROOT / "cmake/metal_libraries.py", ROOT / "csrc", folder]
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(command, check=True, env=environment)
    done = subprocess.run([*command, "--optional"], check=True, env=environment, capture_output=True, text=True)
    assert "q4_k.metal" in done.stderr and [(p.name, p.read_text()) for p in folder.iterdir()] == [("id", "")]
    monkeypatch.setenv("RWKVNATIVE_METAL_LIBRARIES", str(folder))
    assert np.array_equal(logits(), expected)


@pytest.mark.parametrize("fault", ["damaged", "missing", "of other texts", "half written", "no such folder"])
def test_libraries_that_do_not_do(soft, libraries, expected, monkeypatch, tmp_path, fault):
    folder = shutil.copytree(libraries, tmp_path / "libraries")
    monkeypatch.setenv("RWKVNATIVE_METAL_LIBRARIES", str(folder if fault != "no such folder" else tmp_path / "none"))
    if fault == "damaged":
        (folder / "f32.metallib").write_bytes(b"\0damaged")
    elif fault == "missing":
        (folder / "f32.metallib").unlink()
    elif fault == "of other texts":
        (folder / "id").write_text("1")
    elif fault == "half written":
        (folder / "id").unlink()
    before = soft.loaded_libraries()
    assert np.array_equal(logits(), expected)
    assert (soft.loaded_libraries() > before) == (fault in ("damaged", "missing"))


def test_archive(soft, expected, monkeypatch, tmp_path):
    """Made beside others, used, and made anew where it is damaged; those of older kernels go."""
    folder = tmp_path / "not there yet" / "metal"
    monkeypatch.setenv("RWKVNATIVE_METAL_ARCHIVE", str(folder))
    assert np.array_equal(logits(), expected)
    archive, = folder.iterdir()
    first, written = archive.read_text(), archive.stat().st_mtime_ns
    assert len(first.splitlines()) > 8
    assert np.array_equal(logits(), expected)
    assert archive.read_text() == first and archive.stat().st_mtime_ns == written  # nothing was added
    (folder / "1.archive").write_text("of older kernels")
    (folder / "other").write_text("of somebody else")
    for damage in (b"", b"\0\xff damaged"):
        archive.write_bytes(damage)
        assert np.array_equal(logits(), expected)
        assert archive.read_text() == first
    assert {p.name for p in folder.iterdir()} == {archive.name, "other"}


def test_archive_that_cannot_be_written(soft, expected, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RWKVNATIVE_METAL_ARCHIVE", str(tmp_path / "file" / "metal"))
    assert np.array_equal(logits(), expected)


def test_where_they_are_by_default(soft, expected, monkeypatch, tmp_path):
    """Beside the tuner's choices; libraries beside the extension, where this build has none."""
    import platformdirs

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name in ("ARCHIVE", "LIBRARIES"):
        monkeypatch.delenv(f"RWKVNATIVE_METAL_{name}")
    assert np.array_equal(logits(), expected)
    assert len(list(Path(platformdirs.user_cache_dir("rwkvnative", appauthor=False), "metal").glob("*.archive"))) == 1
