"""A test of the tests: bugs seeded into kernels and host code are noticed, every one (mutants.py, emulated/mutants.py).

Compiling a host mutant takes seconds, so by default a third of those run, another third for each state of csrc/metal;
RWKVNATIVE_ALL_MUTANTS=1 runs all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import build
import mutants
import pytest
import toolchain
from mutants import Mutant

METAL = toolchain.ROOT / "csrc" / "metal"
WORKER = toolchain.HERE / "emulated" / "mutants.py"


def run(tasks: list[dict[str, str]], label: str, package: str = "package", **options: str) -> tuple[dict[str, str], str]:
    """How each mutant was noticed, and the process's standard error."""
    path = build.build_of(toolchain.ROOT) / f"mutants-{label}.json"
    path.write_text(json.dumps(tasks))
    done = subprocess.run([sys.executable, WORKER, path], env=build.python_environment(name=package, **options), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def kernel_results(check: bool) -> dict[str, str]:
    chosen = [dataclasses.asdict(m) for m in mutants.KERNELS if m.check == check]
    return run(chosen, f"kernels-{check}", check=str(int(check)))[0]


@pytest.fixture(scope="module")
def under_way(request):
    """The chosen mutants, two processes at a time: futures by whether the checker is on, and by number."""
    build.extension()
    items = [item for item in request.session.items if item.module is request.module]
    with ThreadPoolExecutor(2) as pool:
        modes = [item.callspec.params["check"] for item in items if item.function is test_kernel_mutants]
        numbers = [item.callspec.params["number"] for item in items if item.function is test_host_mutants]
        yield {check: pool.submit(kernel_results, check) for check in modes}, {n: pool.submit(host_result, n) for n in numbers}


@pytest.mark.parametrize("check", [False, True], ids=["by results", "by the checker"])
def test_kernel_mutants(under_way, check):
    results = under_way[0][check].result()
    assert len(results) >= 18
    assert {name: how for name, how in results.items() if how in ("STALE", "SURVIVED") or "not clean" in how} == {}


def test_there_are_enough():
    assert len(mutants.KERNELS) >= 50 and len(mutants.HOST) >= 20
    assert len({m.name for m in mutants.KERNELS + mutants.HOST}) == len(mutants.KERNELS + mutants.HOST)


def host_package(mutant: Mutant, number: int) -> str:
    """The package with one source replaced."""
    source = METAL / mutant.file
    text = source.read_text()
    assert mutant.old in text, f"{mutant.file} has changed; the mutant no longer applies: {mutant.name}"
    name = f"mutant-{number}"
    folder = build.build_of(toolchain.ROOT) / name
    folder.mkdir(parents=True, exist_ok=True)
    changed = folder / mutant.file
    replaced = text.replace(mutant.old, mutant.new, 1)
    if not changed.exists() or changed.read_text() != replaced:
        changed.write_text(replaced)
    objects = {o.name: o for o in build.metal_objects(toolchain.ROOT, build.build_of(toolchain.ROOT) / "metal")}
    objects[f"metal_{mutant.file}.o"], = build.metal_objects(toolchain.ROOT, folder, [changed], ["-O0", "-w"])
    build.extension(metal=list(objects.values()), name=name)
    return name


def chosen() -> list[tuple[int, Mutant]]:
    everything = list(enumerate(mutants.HOST))
    if os.environ.get("RWKVNATIVE_ALL_MUTANTS") == "1" or not METAL.exists():
        return everything
    state = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(METAL.rglob("*")) if p.is_file())).digest()[0]
    return [(i, m) for i, m in everything if i % 3 == state % 3]


def host_result(number: int) -> bool:
    """Whether the mutant is noticed."""
    mutant = mutants.HOST[number]
    name = host_package(mutant, number)
    results, errors = run([{"name": mutant.name, "case": mutant.case}], name, name, check=str(int(mutant.check)), report="1")
    return results[mutant.name] != "SURVIVED" or "autorelease called without pool" in errors


@pytest.mark.parametrize("number", [number for number, _ in chosen()], ids=lambda n: mutants.HOST[n].name)
def test_host_mutants(under_way, number):
    """Those not chosen must still apply: test_host_mutants_apply."""
    assert under_way[1][number].result(), f"survived: {mutants.HOST[number].name}"


@pytest.mark.parametrize("mutant", mutants.HOST, ids=lambda m: m.name)
def test_host_mutants_apply(mutant):
    assert mutant.old in (METAL / mutant.file).read_text(), f"{mutant.file} has changed: give the mutant a text of it"
