"""The modules of tests/ are imported by plain name here too."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pytest  # noqa: E402


class SoftDevice:
    """What a test may order from the software device (device/soft.h)."""

    def __init__(self) -> None:
        path = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("libsoft_metal.so"))
        self._library = ctypes.CDLL(path)
        self._library.soft_metal_live_report.restype = ctypes.c_char_p

    def schedule(self, seed: int) -> None:
        self._library.soft_metal_set_seed(seed)

    def fail_command_buffer(self, n: int, code: int) -> None:
        """The n-th from now; 0: none."""
        self._library.soft_metal_fail_command_buffer(n, code)

    def fail_allocation(self, n: int) -> None:
        self._library.soft_metal_fail_allocation(n)

    def allocation_failed(self) -> bool:
        return self._library.soft_metal_pending_allocation() == 0

    def mutate(self, old: str, new: str) -> None:
        """Replaces a text in every kernel source that is compiled from now on."""
        self._library.soft_metal_mutate(old.encode(), new.encode())

    def mutated(self) -> bool:
        return self._library.soft_metal_mutated() > 0

    def loaded_libraries(self) -> int:
        """From files, so far."""
        return self._library.soft_metal_loaded_libraries()

    def alive(self) -> str:
        """Objects by class; empty if there are none."""
        gc.collect()
        return self._library.soft_metal_live_report().decode()


@pytest.fixture(scope="session")
def soft() -> SoftDevice:
    from rwkvnative import _core

    assert [d["backend"] for d in _core.devices()].count("metal") == (os.environ.get("SOFT_METAL_DEVICE", "apple") == "apple")
    return SoftDevice()


@pytest.fixture(autouse=True)
def no_leaks(soft: SoftDevice):
    """Whatever a test opened is gone afterwards, and no fault is left over."""
    yield
    soft.fail_command_buffer(0, 0)
    soft.fail_allocation(0)
    soft.schedule(int(os.environ.get("SOFT_METAL_SEED", "0")))
    assert soft.alive() == ""
