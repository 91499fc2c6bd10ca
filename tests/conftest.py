"""Shared fixtures. The modules beside this file (synthetic, oracle, ...) import each other by plain name."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Before numpy is loaded: its matrices here are small, and its threads would take the processors from the engine's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

# Property tests repeat on CI what they found here: no wall-clock deadline (a build with sanitizers is slow).
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# A shell starts what it runs in the background with SIGINT ignored, and children inherit that: the tests of Ctrl-C need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

FIXTURES = Path(__file__).parent / "fixtures"
OFFICIAL = ("official_head64", "official_head32")


@pytest.fixture(params=OFFICIAL)
def official(request: pytest.FixtureRequest) -> tuple[Path, dict[str, np.ndarray]]:
    """(GGUF path, numbers of the official package): see python/tools/make_fixtures.py."""
    with np.load(FIXTURES / f"{request.param}.npz") as file:
        return FIXTURES / f"{request.param}.gguf", dict(file)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`device`: every device under test; with EVERY_CPU_KERNEL_SET in the module, each kernel set of the CPU is one."""
    if "device" in metafunc.fixturenames:
        from engines import devices_under_test

        metafunc.parametrize("device", devices_under_test(getattr(metafunc.module, "EVERY_CPU_KERNEL_SET", False)))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones at the beginning of each half: with --dist worksteal two processes begin with a half each, and what is left
    when one of them is done is short. tests/metal, whose tests wait for the same jobs, stays in the first half."""

    def is_first(item: pytest.Item) -> bool:
        return item.path.parent.name == "metal" or item.path.name == "test_native.py"

    def is_second(item: pytest.Item) -> bool:
        return item.path.name.startswith(("test_webgpu", "test_streaming"))

    first, second = list(filter(is_first, items)), list(filter(is_second, items))
    short = [item for item in items if not is_first(item) and not is_second(item)]
    middle = max(len(items) // 2 - len(first), 0)
    items[:] = first + short[:middle] + second + short[middle:]
