"""What a test may order from the software device (device/soft.h) in its own process."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

_COMPILE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)


class SoftDevice:
    """The one device of this process; after rwkvnative._core was imported."""

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

    def compile_with(self, compile: Callable[[str], Path | None]) -> None:
        """Asks `compile` for the library of each source from now on; None: as usual; an exception is the compiler's message."""

        def answer(source: bytes, out: ctypes.c_void_p, size: int) -> int:
            try:
                path = compile(source.decode())
                made, text = (-1, "") if path is None else (1, str(path))
            except Exception as error:
                made, text = 0, f"{error}"
            ctypes.memmove(out, text.encode()[: size - 1] + b"\0", min(len(text.encode()), size - 1) + 1)
            return made

        self._compile = _COMPILE(answer)  # lives as long as the device may call it
        self._library.soft_metal_set_compiler(self._compile)

    def loaded_libraries(self) -> int:
        """From files, so far."""
        return self._library.soft_metal_loaded_libraries()

    def alive(self) -> str:
        """Objects by class; empty if there are none."""
        gc.collect()
        return self._library.soft_metal_live_report().decode()
