"""A test of the tests: bugs seeded into kernels and host code are noticed, every one (mutants/)."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections import Counter

import build
import pytest
import toolchain
from background import parameters
from mutants import Mutant
from mutants.host import HOST
from mutants.kernels import KERNELS

METAL = toolchain.ROOT / "csrc" / "metal"


def run(label: str, mutants: list[Mutant], packages: list[str], check: bool) -> dict[str, str]:
    """How each was noticed."""
    path = build.build_of(toolchain.ROOT) / f"mutants-{label}-{check:d}.json"
    path.write_text(json.dumps([dataclasses.asdict(m) | {"package": p} for m, p in zip(mutants, packages)]))
    done = subprocess.run([sys.executable, toolchain.HERE / "mutants" / "worker.py", path],
                          env=build.python_environment(check=f"{check:d}"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def of_kernels(check: bool) -> dict[str, str]:
    mutants = [m for m in KERNELS if m.check == check]
    return run("kernels", mutants, [str(build.build_of(toolchain.ROOT) / "package")] * len(mutants), check)


def of_host(check: bool) -> dict[str, str]:
    mutants = [m for m in HOST if m.check == check]
    return run("host", mutants, [host_package(m) for m in mutants], check)


JOBS = {
    "kernels, by results": lambda: of_kernels(False),
    "kernels, by the checker": lambda: of_kernels(True),
    "host, by results": lambda: of_host(False),
    "host, by the checker": lambda: of_host(True),
}


@pytest.mark.parametrize("job", parameters(JOBS))
def test_mutants_are_noticed(background, request, job):
    results = background.result(job)
    name = request.node.callspec.id
    mutants = HOST if name.startswith("host") else KERNELS
    assert set(results) >= {m.name for m in mutants if m.check == name.endswith("checker")}
    missed = ("SURVIVED", "STALE", "INVALID", "not clean")
    assert {name: how for name, how in results.items() if how.startswith(missed)} == {}


def test_there_are_enough():
    assert len(KERNELS) >= 50 and len(HOST) >= 30
    assert [name for name, n in Counter(m.name for m in KERNELS + HOST).items() if n > 1] == []


def host_package(mutant: Mutant) -> str:
    """The package with one source replaced: that is compiled, and linked with the others' objects."""
    source = METAL / mutant.file
    text = source.read_text()
    assert mutant.old in text, f"{mutant.file} has changed; the mutant no longer applies: {mutant.name}"
    name = f"mutant-{HOST.index(mutant)}"
    folder = build.build_of(toolchain.ROOT) / name
    folder.mkdir(parents=True, exist_ok=True)
    changed = folder / mutant.file
    replaced = text.replace(mutant.old, mutant.new, 1)
    if not changed.exists() or changed.read_text() != replaced:
        changed.write_text(replaced)
    objects = {o.name: o for o in build.metal_objects(toolchain.ROOT, build.build_of(toolchain.ROOT) / "metal")}
    objects[f"metal_{mutant.file}.o"], = build.metal_objects(toolchain.ROOT, folder, [changed], ["-w"])
    return str(build.extension(metal=list(objects.values()), name=name))
