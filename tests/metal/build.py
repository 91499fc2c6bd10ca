"""Builds what tests/metal runs: the generated <Metal/Metal.h>, the software device, and rwkvnative with the Metal backend.

    . <(python tests/metal/build.py)      sets the environment in which `import rwkvnative` has device "metal"

The package's other objects are those of a CMake build of the same sources: of the folder RWKVNATIVE_OBJECTS, taken as it is
(.ci/run has just built the wheel there), or build/dev (CONTRIBUTING.md), or one made here, which are brought up to date.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import emulator  # noqa: E402
import toolchain  # noqa: E402
from msl import compiler  # noqa: E402
from toolchain import BUILD, CXX, GCC_OBJC, HERE, ROOT, newer  # noqa: E402
from truth import metal_header  # noqa: E402

DEVICE = HERE / "device"
HEADERS = BUILD / "include"

# clang against GNUstep and GCC's Objective-C runtime. Manual reference counting: ARC does not run on it.
OBJC = ("-fobjc-runtime=gcc", "-fblocks", "-fobjc-exceptions", "-fconstant-string-class=NSConstantString", "-DGNUSTEP",
        "-DGNUSTEP_BASE_LIBRARY=1", "-DGNU_RUNTIME=1", "-D_NATIVE_OBJC_EXCEPTIONS", "-isystem", str(DEVICE / "include"),
        "-isystem", "/usr/include/GNUstep", "-isystem", str(GCC_OBJC / "include"), "-isystem", str(HEADERS))
# For GCC's runtime clang asks C code of Objective-C's to unwind, which does not know `catch` of a C++ type. Ours has no @catch.
CATCHES_CXX = ("--redefine-sym", "__gnu_objc_personality_v0=__gxx_personality_v0")
OBJC_LIBRARIES = (f"-L{GCC_OBJC}", "-lgnustep-base", "-lobjc", "-lBlocksRuntime")


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


def compile_objects(sources: list[Path], folder: Path, flags: list[str], depends: list[Path]) -> list[Path]:
    """Compiles what changed, two at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs, objects = [], []
    for source in sources:
        target = folder / f"{source.parent.name}_{source.name}.o"
        objects.append(target)
        if not newer(target, [source, *depends, Path(__file__)]):
            jobs.append([CXX, *flags, "-c", str(source), "-o", str(target)])
    running: list[tuple[list[str], subprocess.Popen[str]]] = []
    while jobs or running:
        while jobs and len(running) < 2:
            job = jobs.pop()
            running.append((job, subprocess.Popen(job, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)))
        job, process = running.pop(0)
        output, _ = process.communicate()
        if process.returncode:
            for target in objects:  # a failed one must not count as built
                if str(target) == job[-1]:
                    target.unlink(missing_ok=True)
            raise RuntimeError(f"{shlex.join(job)}\n{output}")
        if OBJC[0] in job:
            toolchain.command(["llvm-objcopy-19", *CATCHES_CXX, job[-1]])
    return objects


def software_device() -> Path:
    """libsoft_metal.so: MTLCreateSystemDefaultDevice and what it makes."""
    header = metal_header_file()
    runtime = emulator.build_runtime()
    target = BUILD / "libsoft_metal.so"
    sources = sorted(DEVICE.glob("*.mm"))
    depends = [DEVICE / "soft.h", header, HERE / "runtime" / "msl_runtime.h"]
    if not newer(target, [*sources, *depends, runtime]):
        # Protocols of which the program uses a part are implemented in part: the rest stops as an unknown message.
        flags = ["-std=c++20", "-O1", "-g", "-fPIC", "-Wall", "-Wextra", "-Wno-protocol", "-Wno-incomplete-implementation",
                 "-Wno-objc-property-implementation", "-Wno-nonnull", *OBJC]
        objects = compile_objects(sources, BUILD / "device", flags, depends)
        toolchain.command([CXX, "-shared", "-o", target, *objects, f"-L{BUILD}", "-lmsl_runtime", f"-Wl,-rpath,{BUILD}",
                           *OBJC_LIBRARIES, "-pthread"])
    return target


# ---------------------------------------------------------------- rwkvnative with the Metal backend


def _is_metal(path: Path) -> bool:
    return "RWKVNATIVE_METAL" in path.read_text()


@functools.cache
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


def build_of(root: Path) -> Path:
    """What belongs to one checkout."""
    return BUILD / hashlib.sha256(str(root).encode()).hexdigest()[:12]


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


def embedded_kernels(root: Path) -> Path:
    target = build_of(root) / "metal_kernel_sources.cpp"
    target.parent.mkdir(parents=True, exist_ok=True)
    toolchain.command([sys.executable, root / "cmake" / "embed_metal.py", root / "csrc", target])
    return target


def warnings() -> list[str]:
    return ["-Wall", "-Wextra", "-Werror", "-Wno-nullability-completeness"]


def metal_objects(root: Path, folder: Path, sources: list[Path] | None = None, extra: list[str] | None = None) -> list[Path]:
    """csrc/metal/*.mm for the software device; or other sources, with extra flags."""
    header = metal_header_file()
    csrc = root / "csrc"
    depends = [header, *csrc.glob("core/*.h"), *csrc.glob("metal/*.h")]
    flags = ["-std=c++20", "-O1", "-g", "-fPIC", "-fvisibility=hidden", *warnings(), *OBJC, f"-I{csrc}", *(extra or [])]
    return compile_objects(sources or sorted(csrc.glob("metal/*.mm")), folder, flags, depends)


def extension(root: Path = ROOT, metal: list[Path] | None = None, name: str = "package") -> Path:
    """The package with the Metal backend on the software device: a folder for PYTHONPATH.

    metal: objects to use for csrc/metal (mutants); name: the folder's.
    """
    device, here = software_device(), build_of(root)
    objects = metal or metal_objects(root, here / "metal")
    depends = [*root.glob("csrc/**/*.h")]
    for source, (built, flags) in compiled_sources(cmake_folder(root)).items():
        if _is_metal(source):  # what knows of the backend
            objects += compile_objects([source], here / "knowing", [*flags, "-DRWKVNATIVE_METAL"], depends)
        else:
            objects.append(built)
    embedded = embedded_kernels(root)
    objects += compile_objects([embedded], here / "knowing", ["-std=c++20", "-O1", "-fPIC", f"-I{root / 'csrc'}"], depends)
    package = here / name / "rwkvnative"
    package.mkdir(parents=True, exist_ok=True)
    for entry in (root / "python" / "rwkvnative").iterdir():
        link = package / entry.name
        if not link.exists() and entry.suffix != ".so" and entry.name != "__pycache__":
            link.symlink_to(entry)
    # An editable install's import hook would find its own copy first.
    (here / name / "sitecustomize.py").write_text(
        'import sys\nsys.meta_path = [f for f in sys.meta_path if "Redirecting" not in type(f).__name__]\n')
    target = package / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not newer(target, [*objects, device]):
        toolchain.command([CXX, "-shared", "-o", target, *objects, f"-L{BUILD}", "-lsoft_metal", "-lmsl_runtime",
                           f"-Wl,-rpath,{BUILD}", *OBJC_LIBRARIES, "-pthread", "-ldl"])
    return package.parent


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
