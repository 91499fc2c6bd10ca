"""Runs compiled kernels from Python: numpy arrays are the buffers. The software device (device/) calls the same runtime."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import toolchain
from msl.compiler import compile_library

# Schedules that every kernel runs under: in order, and shuffled.
SCHEDULES = (0, 1, 2, 3)

_RUNTIME = toolchain.HERE / "runtime"
_N_BINDINGS = 31
_TYPES = {"bool": np.bool_, "char": np.int8, "uchar": np.uint8, "short": np.int16, "ushort": np.uint16, "int": np.int32,
          "uint": np.uint32, "float": np.float32, "half": np.float16, "uint32_t": np.uint32, "int32_t": np.int32}


class KernelError(Exception):
    """A dispatch was refused, or the checker found a mistake."""


class _Range(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("ordered", ctypes.c_uint64)]


class _Dispatch(ctypes.Structure):
    _fields_ = [("groups", ctypes.c_uint32 * 3), ("threads", ctypes.c_uint32 * 3), ("exact", ctypes.c_uint32 * 3),
                ("threadgroup_bytes", ctypes.c_size_t * _N_BINDINGS), ("buffers", _Range * _N_BINDINGS),
                ("workers", ctypes.c_int), ("seed", ctypes.c_int), ("check", ctypes.c_int)]


@toolchain.once
def build_runtime() -> Path:
    """The runtime as a shared library, built when its sources have changed."""
    target = toolchain.OWN / "libmsl_runtime.so"
    sources = sorted(_RUNTIME.glob("*.cpp"))
    if not toolchain.newer(target, [*sources, *_RUNTIME.glob("*.h")]):
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(f".{os.getpid()}")
        toolchain.command([toolchain.CXX, "-std=c++20", "-O2", "-g1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread",
                           "-o", fresh, *sources, "-ldl"])
        os.replace(fresh, target)
    return target


@functools.cache
def _runtime() -> ctypes.CDLL:
    runtime = ctypes.CDLL(str(build_runtime()))
    runtime.msl_open_library.restype = runtime.msl_find_kernel.restype = runtime.msl_kernel_at.restype = ctypes.c_void_p
    runtime.msl_kernel_name.restype = ctypes.c_char_p
    runtime.msl_mark.restype = ctypes.c_uint64
    for name in ("msl_kernel_name", "msl_kernel_max_threads", "msl_kernel_count", "msl_constant_count"):
        getattr(runtime, name).argtypes = [ctypes.c_void_p]
    return runtime


class Library:
    """The kernels of one source.

    constants: values of its function constants by index; every dispatch of this object uses them.
    """

    def __init__(self, source: str, *, check: bool = False, constants: Mapping[int, object] | None = None,
                 include: Sequence[Path] = (), name: str = "program_source") -> None:
        runtime = _runtime()
        self.check = check
        path = compile_library(source, check=check, include=tuple(include), name=name)
        error = ctypes.create_string_buffer(1000)
        self._handle = ctypes.c_void_p(runtime.msl_open_library(str(path).encode(), error, ctypes.c_size_t(len(error))))
        if not self._handle:
            raise KernelError(error.value.decode())
        self.kernels = [runtime.msl_kernel_name(runtime.msl_kernel_at(self._handle, i)).decode()
                        for i in range(runtime.msl_kernel_count(self._handle))]
        self.constants = self._declared_constants()
        self._values = {}
        for index, value in (constants or {}).items():
            if index not in self.constants:
                raise KernelError(f"no function constant has index {index}; there are {self.constants}")
            self._values[index] = np.array(value, _TYPES[self.constants[index][1]])

    def _declared_constants(self) -> dict[int, tuple[str, str]]:
        """Name and type by index."""
        result = {}
        index, name, type_, size = ctypes.c_int(), ctypes.c_char_p(), ctypes.c_char_p(), ctypes.c_size_t()
        for i in range(_runtime().msl_constant_count(self._handle)):
            _runtime().msl_constant_at(self._handle, i, ctypes.byref(index), ctypes.byref(name), ctypes.byref(type_), ctypes.byref(size))
            result[index.value] = (name.value.decode(), type_.value.decode())
        return result

    def dispatch(self, kernel: str, buffers: Mapping[int, np.ndarray], *, groups: Sequence[int] = (1,), threads: Sequence[int],
                 exact: bool = False, memory: Mapping[int, int] | None = None, seed: int = 0, workers: int = 1,
                 ordered: int | None = None) -> None:
        """Runs a kernel over `groups` threadgroups of `threads`; with exact=True (dispatchThreads), over `groups` threads.

        buffers: contiguous arrays by buffer index; a scalar or bytes is what setBytes takes. memory: bytes of threadgroup
        memory by index. ordered: a mark() since which earlier dispatches may collide with this one; by default none may.
        """
        runtime = _runtime()
        handle = ctypes.c_void_p(runtime.msl_find_kernel(self._handle, kernel.encode()))
        if not handle:
            raise KernelError(f"no kernel {kernel}; there are {self.kernels}")
        args = _Dispatch(workers=workers, seed=seed, check=int(self.check))
        threads = [*threads, 1, 1][:3]
        groups = [*groups, 1, 1][:3]
        for c in range(3):
            args.threads[c] = threads[c]
            args.groups[c] = -(-groups[c] // threads[c]) if exact else groups[c]
            args.exact[c] = groups[c] if exact else 0
        for index, size in (memory or {}).items():
            args.threadgroup_bytes[index] = size
        mark = runtime.msl_mark() if ordered is None else ordered
        for index, array in buffers.items():
            assert array.flags.c_contiguous
            args.buffers[index] = _Range(array.ctypes.data, array.nbytes, mark)
        for index, value in self._values.items():
            runtime.msl_set_constant(self._handle, index, value.ctypes.data_as(ctypes.c_void_p))
        error = ctypes.create_string_buffer(2000)
        if runtime.msl_dispatch(self._handle, handle, ctypes.byref(args), error, ctypes.c_size_t(len(error))):
            raise KernelError(error.value.decode())


def mark() -> int:
    """A point between dispatches, for `ordered`."""
    return _runtime().msl_mark()
