"""What CMake gives to the compilers of a Mac: configured here for Darwin, with clang in place of Apple's compiler
and nothing in its frameworks. Nothing of the package is compiled; that is test_metal_truth.py's."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import toolchain

# Apple's clang takes -arch, several of them too.
COMPILER = """#!/bin/sh
kept=
while [ $# -gt 0 ]; do
  case $1 in -arch) shift 2; continue;; esac
  kept="$kept '$1'"; shift
done
eval exec {clang} --target=arm64-apple-macos13 $kept
"""
# What pybind11's does, as far as flags go; the real one needs a Python to build for.
PYBIND11 = """function(pybind11_add_module target)
  list(REMOVE_ITEM ARGN NO_EXTRAS)
  add_library(${target} MODULE ${ARGN})
  set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET hidden)
endfunction()
"""
# Processor of the build machine, architectures asked for; flags of the kernels for arm64 and for AVX2.
CONFIGURATIONS = {
    "Intel": ("x86_64", "", [], ["-mavx2", "-mfma", "-mf16c"]),
    "Apple silicon on Intel": ("x86_64", "arm64", ["-march=armv8.2-a+dotprod"], []),
    "universal2": ("arm64", "arm64;x86_64", ["-Xarch_arm64", "-march=armv8.2-a+dotprod"],
                   ["-Xarch_x86_64", "-mavx2", "-Xarch_x86_64", "-mfma", "-Xarch_x86_64", "-mf16c"]),
}


def configured(folder: Path, processor: str, architectures: str) -> dict[str, list[str]]:
    """The command of each source, by its name."""
    compiler = folder / "clang++"
    compiler.write_text(COMPILER.format(clang=shutil.which(toolchain.CXX)))
    compiler.chmod(0o755)
    frameworks = folder / "frameworks"
    for name in ("Metal", "Foundation", "CoreGraphics"):
        (frameworks / f"{name}.framework").mkdir(parents=True)
        (frameworks / f"{name}.framework" / f"{name}.tbd").touch()
    (folder / "pybind11Config.cmake").write_text(PYBIND11)
    toolchain.command([
        "cmake", "-S", toolchain.ROOT, "-B", folder / "build", "-G", "Unix Makefiles", "-DCMAKE_SYSTEM_NAME=Darwin",
        f"-DCMAKE_SYSTEM_PROCESSOR={processor}", f"-DCMAKE_OSX_ARCHITECTURES={architectures}", f"-DCMAKE_OSX_SYSROOT={folder}",
        f"-DCMAKE_CXX_COMPILER={compiler}", f"-DCMAKE_OBJCXX_COMPILER={compiler}", "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY",
        "-DCMAKE_INSTALL_NAME_TOOL=/bin/true", f"-DCMAKE_FRAMEWORK_PATH={frameworks}", "-DCMAKE_BUILD_TYPE=Release",
        f"-Dpybind11_DIR={folder}", f"-DPython_EXECUTABLE={sys.executable}", "-DRWKVNATIVE_WEBGPU=OFF",
        "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"])
    commands = json.loads((folder / "build" / "compile_commands.json").read_text())
    return {Path(c["file"]).name: shlex.split(c["command"]) for c in commands}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_flags(tmp_path, name):
    processor, architectures, neon, avx2 = CONFIGURATIONS[name]
    commands = configured(tmp_path, processor, architectures)
    assert {"isa.cpp", "device.mm", "metal_kernels.cpp", "module.cpp"} <= set(commands)
    for source, words in commands.items():
        assert "-std=c++20" in words and "-fvisibility=hidden" in words, f"{source}: {words}"
        assert ("-fno-objc-arc" in words) == source.endswith(".mm")
        of_processor = [w for w in words if re.match(r"-m|-Xarch", w)]
        if source == "kernels_neon.cpp":
            assert of_processor == neon
        elif source == "kernels_avx2.cpp":
            assert of_processor == avx2
        elif not source.startswith("kernels_avx"):
            assert of_processor == [], source
