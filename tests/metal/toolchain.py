"""Where the tools of tests/metal are, and which are missing. setup.sh installs them."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# Downloads and everything built from them: never inside of the tree.
FOLDER = Path(os.environ.get("RWKVNATIVE_METAL_TOOLS") or Path.home() / ".cache" / "rwkvnative-metal").resolve()
BUILD = FOLDER / "build"  # of all checkouts: what is named by its contents


def build_of(root: Path) -> Path:
    """What belongs to one checkout: another one's tests may run at the same time."""
    return BUILD / hashlib.sha256(str(root).encode()).hexdigest()[:12]


OWN = build_of(ROOT)
KERNELS = BUILD / "kernels"  # by the hash of their text

_UNUSED_SECONDS = 30 * 24 * 3600

CXX = "clang++-19"
# The newest GCC with an Objective-C runtime, which GNUstep runs on.
_RUNTIMES = [p.parent.parent.parent for p in Path("/usr/lib/gcc/x86_64-linux-gnu").glob("*/include/objc/objc.h")]
GCC_OBJC = max(_RUNTIMES, key=lambda p: int(p.name), default=Path("/usr/lib/gcc/x86_64-linux-gnu/12"))


def unsupported() -> str:
    """Why this machine cannot run the emulator at all; empty if it can."""
    if sys.platform == "linux" and platform.machine() == "x86_64":
        return ""
    return "the emulator runs on Linux on x86-64: its context switch and GNUstep are set up for nothing else"


@functools.cache
def missing() -> list[str]:
    """What is not installed, in words; empty if everything is."""
    result = [command for command in (CXX, "llvm-symbolizer-19") if not shutil.which(command)]
    files = {
        "GNUstep (libgnustep-base-dev)": Path("/usr/include/GNUstep/Foundation/Foundation.h"),
        "GCC's Objective-C runtime (gobjc++)": GCC_OBJC / "include/objc/objc.h",
        "the blocks runtime (libblocksruntime-dev)": Path("/usr/include/Block.h"),
        "metal-cpp (out of the mlx-metal wheel)": FOLDER / "mlx/mlx/include/metal_cpp/Metal/Metal.hpp",
        "PyObjC's Metal metadata": FOLDER / "pyobjc/Metal/_metadata.py",
        "PyObjC's metadata of macOS 13": FOLDER / "pyobjc-sdk13/Metal/_metadata.py",
        "ziglang": FOLDER / "venv/installed",
        "ziglang of LLVM 16": FOLDER / "zig-llvm16/ziglang/zig",
    }
    return result + [what for what, path in files.items() if not path.exists()]


def how_to_get() -> str:
    return f"missing: {', '.join(missing())}; get it with: bash {(HERE / 'setup.sh').relative_to(ROOT)}"


def claim(root: Path) -> None:
    """Notes which checkout build_of(root) belongs to, for tidy()."""
    put(build_of(root) / "checkout", str(root))


def tidy() -> None:
    """Removes the builds of checkouts that are gone, and kernels and what else nobody has used for a month."""

    def is_stale(path: Path) -> bool:
        checkout = path / "checkout"
        if checkout.exists():
            return not (Path(checkout.read_text()) / "tests/metal").exists()
        return path.stat().st_mtime < time.time() - _UNUSED_SECONDS

    for path in [*BUILD.glob("*"), *KERNELS.glob("*")]:
        with suppress(FileNotFoundError):  # another process tidies
            if path == KERNELS or not is_stale(path):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """No other process is here under this name, and no other call of this process."""
    import fcntl  # not everywhere: see unsupported()

    claim(ROOT)
    with open(OWN / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        yield


def once(function: Callable[..., T]) -> Callable[..., T]:
    """For what is built when it is first asked for, by whichever thread or process: the others wait for it."""
    lock = threading.RLock()

    @functools.cache
    def cached(*arguments: object) -> T:
        with _alone(function.__name__):
            return function(*arguments)

    @functools.wraps(function)
    def locked(*arguments: object) -> T:
        with lock:
            return cached(*arguments)

    return locked


def newer(target: Path, sources: list[Path]) -> bool:
    """Whether target exists and is newer than all of its sources."""
    return target.exists() and all(target.stat().st_mtime_ns >= s.stat().st_mtime_ns for s in sources)


def put(target: Path, text: str) -> None:
    """Writes a file, unless it holds that already: another process may be reading it."""
    if target.exists() and target.read_text() == text:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.{os.getpid()}.{threading.get_ident()}")
    fresh.write_text(text)
    os.replace(fresh, target)


def command(arguments: list[str | Path], **options: object) -> str:
    """Runs a tool; its standard output. Raises RuntimeError with what it printed when it fails."""
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(str(a) for a in arguments)}\n{done.stdout}{done.stderr}")
    return done.stdout
