"""The modules of tests/ are imported by plain name here too."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pytest  # noqa: E402
from soft import SoftDevice  # noqa: E402


@pytest.fixture(scope="session")
def soft() -> SoftDevice:
    from rwkvnative import _core

    assert [d["backend"] for d in _core.devices()].count("metal") == (os.environ.get("SOFT_METAL_DEVICE", "apple") in ("apple", "ssh"))
    return SoftDevice()


@pytest.fixture(autouse=True)
def no_leaks(soft: SoftDevice):
    """Whatever a test opened is gone afterwards, and no fault is left over."""
    yield
    soft.fail_command_buffer(0, 0)
    soft.fail_allocation(0)
    soft.schedule(int(os.environ.get("SOFT_METAL_SEED", "0")))
    assert soft.alive() == ""
