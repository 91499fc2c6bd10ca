"""Compiles an unmodified .metal source to a shared library of kernels for this processor.

1. clang's preprocessor runs with an empty <metal_stdlib>: the source's own macros are expanded, ours are not.
2. rewrite.py changes the few things that C++ cannot express.
3. clang compiles that with our <metal_stdlib> (include/) in front and the kernel table (table.py) behind.

Two more ways to compile: with checks, where each load and store calls the runtime's checker; and with address spaces, which
only parses, as C++14, the language that MSL 3 is based on.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

import toolchain
from msl.rewrite import Rewritten, rewrite
from msl.table import generate
from msl.tokens import MslError

INCLUDE = Path(__file__).parent / "include"
CACHE = toolchain.KERNELS

_STANDARD_HEADERS = ("metal_stdlib", "metal_atomic", "metal_compute", "metal_simdgroup", "metal_simdgroup_matrix", "metal_math",
                     "metal_integer", "metal_geometric", "metal_relational", "metal_common", "metal_types", "metal_limits",
                     "simd/simd.h")
_DEFINES = ("-D__METAL_VERSION__=310", "-D__METAL__=1")
_BASE = ("-x", "c++", "-nostdinc", "-I", str(INCLUDE), "-Wall", "-Wextra", "-Wconversion-null", "-Wno-unused-function",
         "-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-unused-const-variable", "-Wno-unknown-attributes",
         "-Wno-duplicate-decl-specifier", "-Wno-missing-braces", "-Wno-sign-compare", "-flax-vector-conversions=none",
         "-Xclang", "-ffloat16-excess-precision=none", "-ffp-contract=off", "-fno-exceptions", "-fno-rtti")
_RUN = ("-std=c++17", "-g1", "-march=x86-64-v3", "-fPIC", "-shared", "-nostdlib", "-Wl,-Bsymbolic")
# The instrumentation of ThreadSanitizer and UndefinedBehaviorSanitizer, calling our runtime instead of theirs.
_CHECK = ("-O1", "-fno-vectorize", "-fno-slp-vectorize", "-fno-sanitize-recover=all", "-mllvm", "-tsan-instrument-func-entry-exit=0",
          "-mllvm", "-tsan-instrument-atomics=0",
          "-fsanitize=thread,alignment,shift,integer-divide-by-zero,float-cast-overflow,array-bounds")
_ADDRESS_SPACES = ("-std=c++14", "-fsyntax-only", "-DMSL_ADDRESS_SPACES", "-Werror=c++17-extensions", "-Werror=c++20-extensions")


def preprocess(source: str, include: tuple[Path, ...] = (), name: str = "program_source") -> str:
    """Expands macros and includes; `name` is what messages call the source."""
    empty = _empty_headers()
    arguments = [toolchain.CXX, "-E", "-x", "c++", "-std=c++14", "-nostdinc", "-I", empty, *_DEFINES]
    for folder in include:
        arguments += ["-I", folder]
    done = subprocess.run([*arguments, "-"], input=f'#line 1 "{name}"\n{source}', capture_output=True, text=True)
    if done.returncode:
        raise MslError(done.stderr)
    # Pragmas that clang would warn about.
    return re.sub(r"^[ \t]*#pragma[ \t]+(unroll|clang|METAL|once)\b[^\n]*$", "", done.stdout, flags=re.M)


def rewritten(source: str, include: tuple[Path, ...] = (), name: str = "program_source") -> Rewritten:
    return rewrite(preprocess(source, include, name))


def check_address_spaces(source: str, include: tuple[Path, ...] = (), name: str = "program_source") -> str:
    """Parses the source with device, constant and threadgroup as different address spaces. Returns the warnings."""
    text = "#include <metal_stdlib>\n" + rewritten(source, include, name).source
    return _clang([*_BASE, *_ADDRESS_SPACES, "-"], text)


def compile_library(source: str, *, check: bool = False, include: tuple[Path, ...] = (), name: str = "program_source") -> Path:
    """The shared library of a source's kernels, for runtime.py or the software device; compiled once for the same text."""
    r = rewritten(source, include, name)
    text = "#include <metal_stdlib>\n" + r.source + generate(r)
    flags = [*_BASE, *_RUN, *(_CHECK if check else ("-O2",))]
    key = hashlib.sha256("\0".join([text, *flags, _environment()]).encode()).hexdigest()[:24]
    target = CACHE / f"{key}.so"
    if not _in_use(target):
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            built = Path(folder) / "kernels.so"
            _clang([*flags, "-", "-lm", "-o", str(built)], text)
            os.replace(built, target)
    return target


def remember(source: str, check: bool) -> None:
    """Compiles a source, and notes where its library is for the software device (device/library.mm), which asks by this hash."""
    key = 14695981039346656037  # FNV-1a
    for byte in (source + stamp() + ("check" if check else "")).encode():
        key = (key ^ byte) * 1099511628211 & 0xFFFFFFFFFFFFFFFF
    note = CACHE / f"{key:016x}"
    if not (_in_use(note) and _in_use(Path(note.read_text()))):
        path = compile_library(source, check=check)
        fresh = CACHE / f"{key:016x}.{os.getpid()}"
        fresh.write_text(str(path))
        os.replace(fresh, note)


def _in_use(path: Path) -> bool:
    """Whether it is there, and then for longer: toolchain.tidy()."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _clang(arguments: list[str], text: str) -> str:
    done = subprocess.run([toolchain.CXX, *arguments], input=text, capture_output=True, text=True)
    if done.returncode:
        raise MslError(done.stderr)
    return done.stderr


@functools.cache
def _environment() -> str:
    """What else decides about the result: our headers and the compiler."""
    headers = [*sorted(INCLUDE.rglob("*")), toolchain.HERE / "runtime" / "abi.h"]
    version = toolchain.command([toolchain.CXX, "--version"])
    return version + "".join(h.read_text() for h in headers if h.is_file())


@functools.cache
def stamp() -> str:
    """Changes when the same source may give another library."""
    sources = "".join(p.read_text() for p in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256((_environment() + sources).encode()).hexdigest()[:16]


@functools.cache
def _empty_headers() -> Path:
    folder = toolchain.OWN / "empty_headers"
    for header in _STANDARD_HEADERS:
        path = folder / header
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder
