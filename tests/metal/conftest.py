"""tests/metal needs tools of its own (toolchain.py): where they are missing its tests are skipped, saying what to install;
in CI that is a failure."""

from __future__ import annotations

import os

import pytest
import toolchain


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    if why := toolchain.unsupported():
        pytest.skip(why)
    if not toolchain.missing():
        return
    if os.environ.get("CI"):
        pytest.fail(toolchain.how_to_get())
    pytest.skip(toolchain.how_to_get())
