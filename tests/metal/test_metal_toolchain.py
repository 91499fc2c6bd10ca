"""The cache folder of these tests does not grow for ever."""

from __future__ import annotations

import os

import emulator
import toolchain
from msl import compiler

MONTHS_AGO = 1_700_000_000


def test_tidy(tmp_path, monkeypatch):
    """What belongs to a checkout stays as long as that does, the rest as long as it is used."""
    monkeypatch.setattr(toolchain, "BUILD", tmp_path)
    monkeypatch.setattr(toolchain, "KERNELS", tmp_path / "kernels")
    gone = tmp_path / "gone checkout"
    (gone / "tests/metal").mkdir(parents=True)
    for root in (toolchain.ROOT, gone):
        toolchain.claim(root)
        (toolchain.build_of(root) / "folder").mkdir()
        (toolchain.build_of(root) / "folder/object.o").touch()
        os.utime(toolchain.build_of(root), (MONTHS_AGO, MONTHS_AGO))
    files = [tmp_path / f"{where}{age}" for where in ("kernels/", "of an older version, ") for age in ("old", "new")]
    (tmp_path / "kernels").mkdir()
    for file in files:
        file.touch()
        if file.name.endswith("old"):
            os.utime(file, (MONTHS_AGO, MONTHS_AGO))
    os.utime(tmp_path / "kernels", (MONTHS_AGO, MONTHS_AGO))
    toolchain.tidy()
    assert toolchain.build_of(gone).exists() and [f.exists() for f in files] == [False, True, False, True]
    (gone / "tests/metal").rmdir()
    toolchain.tidy()
    assert not toolchain.build_of(gone).exists() and (toolchain.build_of(toolchain.ROOT) / "folder/object.o").exists()


def test_what_is_used_is_not_old():
    source = f"#include <metal_stdlib>\nkernel void f(device int* out [[buffer(0)]]) {{ out[0] = {os.getpid()}; }}\n"
    path = compiler.compile_library(source)
    compiler.remember(source, check=False)
    try:
        os.utime(path, (MONTHS_AGO, MONTHS_AGO))
        assert compiler.compile_library(source) == path and path.stat().st_mtime > MONTHS_AGO
        os.utime(path, (MONTHS_AGO, MONTHS_AGO))
        compiler.remember(source, check=False)
        assert path.stat().st_mtime > MONTHS_AGO
    finally:
        path.unlink()


def test_every_build_says_whose_it_is():
    emulator.build_runtime()
    assert (toolchain.OWN / "checkout").read_text() == str(toolchain.ROOT)
