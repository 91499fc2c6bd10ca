"""Builds what tests/metal runs: the generated <Metal/Metal.h>, the software device, and rwkvnative with the Metal backend.

    . <(python tests/metal/build.py)      sets the environment in which `import rwkvnative` has device "metal"

The package's other objects are those of a CMake build of the same sources: of the folder RWKVNATIVE_OBJECTS, taken as it is
(.ci/run has just built the wheel there), or build/dev (CONTRIBUTING.md), or one made here, which are brought up to date.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import emulator  # noqa: E402
import toolchain  # noqa: E402
from msl import compiler  # noqa: E402
from toolchain import CXX, GCC_OBJC, HERE, OWN, ROOT, build_of, newer, once  # noqa: E402
from truth import metal_header  # noqa: E402

DEVICE = HERE / "device"
HEADERS = OWN / "include"

# clang against GNUstep and GCC's Objective-C runtime. Manual reference counting: ARC does not run on it.
OBJC = ("-fobjc-runtime=gcc", "-fblocks", "-fobjc-exceptions", "-fconstant-string-class=NSConstantString", "-DGNUSTEP",
        "-DGNUSTEP_BASE_LIBRARY=1", "-DGNU_RUNTIME=1", "-D_NATIVE_OBJC_EXCEPTIONS", "-isystem", str(DEVICE / "include"),
        "-isystem", "/usr/include/GNUstep", "-isystem", str(GCC_OBJC / "include"), "-isystem", str(HEADERS))
# For GCC's runtime clang asks C code of Objective-C's to unwind, which does not know `catch` of a C++ type. Ours has no @catch.
CATCHES_CXX = ("--redefine-sym", "__gnu_objc_personality_v0=__gxx_personality_v0")
OBJC_LIBRARIES = (f"-L{GCC_OBJC}", "-lgnustep-base", "-lobjc", "-lBlocksRuntime")


@once
def metal_header_file() -> Path:
    """The generated Metal.h; beside it metal_api.json for the checks."""
    target, prelude = HEADERS / "Metal" / "Metal.h", DEVICE / "include" / "Metal" / "Prelude.h"
    source = toolchain.FOLDER / "mlx/mlx/include/metal_cpp"
    if not newer(target, [HERE / "truth" / "metal_header.py", prelude, toolchain.FOLDER / "mlx/unpacked"]):
        api = metal_header.read(source, prelude)
        target.parent.mkdir(parents=True, exist_ok=True)
        (target.parent / "Prelude.h").write_text(prelude.read_text())
        (HEADERS / "metal_api.json").write_text(metal_header.summary(api))
        target.write_text(metal_header.header(api))
    return target


def _made(command: list[str], target: Path, sources: list[Path]) -> bool:
    """Whether target was made by this command and is newer than its sources."""
    note = target.with_name(target.name + ".command")
    return newer(target, sources) and note.exists() and note.read_text() == shlex.join(command)


def _note(command: list[str], target: Path) -> None:
    target.with_name(target.name + ".command").write_text(shlex.join(command))


def precompiled(headers: list[Path], folder: Path, flags: list[str], depends: list[Path]) -> list[str]:
    """The flags that put these headers, precompiled, in front of a source."""
    folder.mkdir(parents=True, exist_ok=True)
    source, target = folder / "headers.h", folder / "headers.pch"
    text = "".join(f'#include "{h}"\n' for h in headers)
    command = [CXX, *flags, "-x", "objective-c++-header", str(source), "-o", str(target)]
    if not (_made(command, target, [*headers, *depends]) and source.read_text() == text):
        source.write_text(text)
        toolchain.command(command)
        _note(command, target)
    return ["-include-pch", str(target)]


def compile_objects(sources: list[Path], folder: Path, flags: list[str], depends: list[Path]) -> list[Path]:
    """Compiles what changed, two at a time."""
    folder.mkdir(parents=True, exist_ok=True)

    def compile(source: Path) -> Path:
        target = folder / f"{source.parent.name}_{source.name}.o"
        command = [CXX, *flags, "-c", str(source), "-o", str(target)]
        if not _made(command, target, [source, *depends, Path(__file__)]):
            target.unlink(missing_ok=True)  # what does not compile must not count as made
            toolchain.command(command)
            if OBJC[0] in flags:
                toolchain.command(["llvm-objcopy-19", *CATCHES_CXX, target])
            _note(command, target)
        return target

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(compile, sources))


@once
def software_device() -> Path:
    """libsoft_metal.so: MTLCreateSystemDefaultDevice and what it makes."""
    header = metal_header_file()
    runtime = emulator.build_runtime()
    target = OWN / "libsoft_metal.so"
    sources = sorted(DEVICE.glob("*.mm"))
    depends = [DEVICE / "soft.h", header, HERE / "runtime" / "msl_runtime.h"]
    if not newer(target, [*sources, *depends, runtime]):
        # Protocols of which the program uses a part are implemented in part: the rest stops as an unknown message.
        flags = ["-std=c++20", "-O1", "-fPIC", "-Wall", "-Wextra", "-Wno-protocol", "-Wno-incomplete-implementation",
                 "-Wno-objc-property-implementation", "-Wno-nonnull", *OBJC]
        flags += precompiled([DEVICE / "soft.h"], OWN / "device", flags, depends)
        objects = compile_objects(sources, OWN / "device", flags, depends)
        toolchain.command([CXX, "-shared", "-o", target, *objects, f"-L{OWN}", "-lmsl_runtime", f"-Wl,-rpath,{OWN}",
                           *OBJC_LIBRARIES, "-pthread"])
    return target


# ---------------------------------------------------------------- rwkvnative with the Metal backend


def _is_metal(path: Path) -> bool:
    return "RWKVNATIVE_METAL" in path.read_text()


@once
def cmake_folder(root: Path = ROOT) -> Path:
    """A build folder whose objects are those of the sources as they are now."""
    if given := os.environ.get("RWKVNATIVE_OBJECTS"):
        return Path(given)
    folder = root / "build" / "dev"
    if not (folder / "build.ninja").exists():
        folder = build_of(root) / "cmake"
        launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
        toolchain.command(["cmake", "-S", root, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
                           f"-DPython_EXECUTABLE={sys.executable}", *launcher])
    toolchain.command(["cmake", "--build", folder, "--target", "_core", "-j2"])
    return folder


@once
def compiled_sources(folder: Path) -> dict[Path, tuple[Path, list[str]]]:
    """Of a CMake build of ours, with Ninja or compile_commands.json: source to object and compiler flags."""
    result = {}
    if (folder / "build.ninja").exists():
        rule = re.compile(r"^build (CMakeFiles/_core\.dir/\S+\.o): CXX_COMPILER\S+ (\S+).*\n((?:  .*\n)+)", re.M)
        for m in rule.finditer((folder / "build.ninja").read_text()):
            variables = dict(re.findall(r"^  (\w+) = (.*)$", m.group(3), re.M))
            flags = [w for name in ("DEFINES", "FLAGS", "INCLUDES") for w in shlex.split(variables.get(name, ""))]
            result[folder / m.group(2)] = (folder / m.group(1), flags)
    elif (folder / "compile_commands.json").exists():
        for entry in json.loads((folder / "compile_commands.json").read_text()):
            words = shlex.split(entry["command"])
            words = words[next(i for i, w in enumerate(words) if w.startswith("-")) :]
            at = words.index("-o")
            if "_core.dir" in words[at + 1]:
                flags = [w for w in words[:at] + words[at + 2 :] if w not in ("-c", entry["file"])]
                result[folder / entry["file"]] = (Path(entry["directory"]) / words[at + 1], flags)
    if not result:
        raise RuntimeError(f"{folder} holds no CMake build of _core that says how it was made")
    return result


@once
def kernel_texts(root: Path = ROOT) -> dict[str, str]:
    """Each kernel file, by its name, as the backend hands it to Metal: includes written out."""
    spec = importlib.util.spec_from_file_location("embed_metal", root / "cmake" / "embed_metal.py")
    assert spec and spec.loader
    embed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(embed)
    return embed.kernel_texts(root / "csrc")


@once
def compiled_kernels(root: Path = ROOT) -> None:
    """Compiles all kernels, to run and with checks, before the software device asks for them one by one."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: compiler.remember(*job), [(t, check) for t in kernel_texts(root).values() for check in (False, True)]))


@once
def embedded_kernels(root: Path) -> Path:
    target = build_of(root) / "metal_kernel_sources.cpp"
    target.parent.mkdir(parents=True, exist_ok=True)
    toolchain.command([sys.executable, root / "cmake" / "embed_metal.py", root / "csrc", target])
    return target


def warnings() -> list[str]:
    return ["-Wall", "-Wextra", "-Werror", "-Wno-nullability-completeness"]


def metal_objects(root: Path, folder: Path, sources: list[Path] | None = None, extra: Sequence[str] = ()) -> list[Path]:
    """csrc/metal/*.mm for the software device; or other sources, with extra flags.

    Headers that most of them include are precompiled, for all: that a source includes what it needs is seen where it is
    compiled for a Mac (truth/apple.py).
    """
    csrc, header = root / "csrc", metal_header_file()
    headers = [csrc / "metal" / "program.h"]
    depends = [header, *csrc.glob("metal/*.h"), *csrc.glob("core/*.h"), *csrc.glob("metal/kernels/*.h")]
    flags = ["-std=c++20", "-O0", "-fPIC", "-fvisibility=hidden", *warnings(), *OBJC, f"-I{csrc}"]
    flags += precompiled(headers, build_of(root) / "metal", flags, depends)
    return compile_objects(sources or sorted(csrc.glob("metal/*.mm")), folder, [*flags, *extra], depends)


def extension(root: Path = ROOT, metal: list[Path] | None = None, name: str = "package") -> Path:
    """The package with the Metal backend on the software device: a folder for PYTHONPATH.

    metal: objects to use for csrc/metal (mutants); name: the folder's.
    """
    toolchain.claim(root)
    device, here = software_device(), build_of(root)
    objects = metal or metal_objects(root, here / "metal")
    depends = [*root.glob("csrc/**/*.h")]
    for source, (built, flags) in compiled_sources(cmake_folder(root)).items():
        if _is_metal(source):  # what knows of the backend
            objects += compile_objects([source], here / "knowing", [*flags, "-DRWKVNATIVE_METAL"], depends)
        else:
            objects.append(built)
    embedded = embedded_kernels(root)
    compiled_kernels(root)
    objects += compile_objects([embedded], here / "knowing", ["-std=c++20", "-O1", "-fPIC", f"-I{root / 'csrc'}"], depends)
    package = here / name / "rwkvnative"
    package.mkdir(parents=True, exist_ok=True)
    for entry in (root / "python" / "rwkvnative").iterdir():
        link = package / entry.name
        if not link.exists() and entry.suffix != ".so" and entry.name != "__pycache__":
            link.symlink_to(entry)
    # An editable install's import hook would find its own copy first.
    toolchain.put(
        here / name / "sitecustomize.py",
        'import sys\nsys.meta_path = [f for f in sys.meta_path if "Redirecting" not in type(f).__name__]\n')
    target = package / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not newer(target, [*objects, device]):
        toolchain.command([CXX, "-shared", "-o", target, *objects, f"-L{OWN}", "-lsoft_metal", "-lmsl_runtime",
                           f"-Wl,-rpath,{OWN}", *OBJC_LIBRARIES, "-pthread", "-ldl"])
    return package.parent


@once
def package() -> Path:
    """extension() of this checkout as it is."""
    return extension()


def python_environment(root: Path = ROOT, name: str = "package", **options: str) -> dict[str, str]:
    """The environment of a Python process that imports the package of extension()."""
    return {**os.environ, **environment(**options), "PYTHONPATH": str(build_of(root) / name), "PYTHONDONTWRITEBYTECODE": "1"}


def environment(**options: str) -> dict[str, str]:
    """Environment variables for a process that uses the software device; options as SOFT_METAL_<name>."""
    compiler.CACHE.mkdir(parents=True, exist_ok=True)
    result = {"SOFT_METAL_COMPILER": shlex.join([sys.executable, str(HERE / "msl")]), "SOFT_METAL_STAMP": compiler.stamp(),
              "SOFT_METAL_CACHE": str(compiler.CACHE), "RWKVNATIVE_METAL_TOOLS": str(toolchain.FOLDER),
              "RWKVNATIVE_METAL_ARCHIVE": "", "RWKVNATIVE_METAL_LIBRARIES": ""}  # nothing of the user's
    return result | {f"SOFT_METAL_{name.upper()}": value for name, value in options.items()}


if __name__ == "__main__":
    checkout = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    print(f"export PYTHONPATH={shlex.quote(str(extension(checkout)))}")
    for variable, text in environment().items():
        print(f"export {variable}={shlex.quote(text)}")
