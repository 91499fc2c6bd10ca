"""Finds Dawn, the WebGPU implementation, in the `wgpudawn` wheel.

The extension calls `addresses` when a WebGPU device is listed or opened for the first time; importing rwkvnative loads
nothing. RWKVNATIVE_DAWN_LIBRARY names another libwebgpu_dawn; the extension then loads that and does not come here.
"""

from __future__ import annotations

from .errors import DeviceError


def addresses() -> tuple[int, int]:
    """The addresses of `wgpuGetProcAddress` and of the wheel's `wgpu_dawn_enumerate_adapters` (0 where it has none).

    Raises DeviceError if the wheel is missing or does not load.
    """
    try:
        from wgpudawn._lib import ffi, lib
    except (ImportError, OSError) as error:
        raise DeviceError(f"Dawn is not there: {error}; install the package wgpudawn, or let RWKVNATIVE_DAWN_LIBRARY name a "
                          "libwebgpu_dawn") from error

    def address(name: str) -> int:
        return int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))

    try:
        enumerate_adapters = address("wgpu_dawn_enumerate_adapters")
    except AttributeError:
        enumerate_adapters = 0
    return address("wgpuGetProcAddress"), enumerate_adapters
