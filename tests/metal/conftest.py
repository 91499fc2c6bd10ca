"""tests/metal needs tools of its own (toolchain.py): where they are missing its tests are skipped, saying what to install;
in CI that is a failure."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import toolchain
from background import Background


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "background(job): waits for a job that runs from the session's start (background.py)")


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    if why := toolchain.unsupported():
        pytest.skip(why)
    if not toolchain.missing():
        toolchain.tidy()
        return
    if os.environ.get("CI"):
        pytest.fail(toolchain.how_to_get())
    pytest.skip(toolchain.how_to_get())


@pytest.fixture(scope="session", autouse=True)
def background(request: pytest.FixtureRequest, tools: None) -> Iterator[Background]:
    started = Background(request.session.items)
    yield started
    started.stop()
