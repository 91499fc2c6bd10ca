"""Every message, class and enumerator that csrc/metal uses is what Apple declares; the same sources link for both kinds of Mac.

Two sources that know nothing of each other: metal-cpp's headers, from which <Metal/Metal.h> is generated, and what Apple's
compiler and SDK left in PyObjC's binary and metadata. docs: tests/metal/README.md.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import build
import pytest
import toolchain
from background import waits_for
from truth import apple, compare

SOURCES = sorted((toolchain.ROOT / "csrc").rglob("*.mm"))
# Of Foundation's root class and protocol: every object has them.
ROOT_MESSAGES = {"alloc", "init", "release", "retain", "autorelease", "copy", "new", "class", "respondsToSelector:"}
# Foundation, which the generated declarations do not cover: apple/Foundation/Foundation.h declares what may be used.
FOUNDATION = "NS"


@functools.cache
def api() -> dict:
    build.metal_header_file()
    return json.loads((build.HEADERS / "metal_api.json").read_text())


def uses_of(sources: list[Path]) -> dict[str, dict[str, list[str]]]:
    flags = ["-std=c++20", *build.OBJC, "-I", str(toolchain.ROOT / "csrc"), "-isystem", "/usr/lib/llvm-19/lib/clang/19/include"]
    return json.loads(toolchain.command([toolchain.FOLDER / "venv/bin/python", toolchain.HERE / "truth/messages.py", json.dumps(flags), *sources]))


def uses() -> dict[str, dict[str, list[str]]]:
    """What each source says to Metal."""
    return uses_of(SOURCES)


def ancestors(name: str) -> list[str]:
    """A class or protocol and what it inherits from."""
    return [name, *ancestors(api()["bases"][name])] if api()["bases"].get(name) else [name]


def test_encodings_are_those_of_the_sdk():
    result = compare.encodings(set(api()["protocols"]))
    assert result.different == []
    assert result.equal >= 630, result  # 633 with SDK 26.5; a broken comparison finds few
    assert len(result.absent) < 12, result.absent


def test_enumerators_are_those_of_the_sdk():
    result = compare.enumerators(api()["enums"])
    assert result.different == []
    assert result.equal >= 895, result


def test_little_of_metal_cpp_is_skipped():
    assert sum(map(len, api()["methods"].values())) > 2400
    assert len(api()["skipped"]) < 60, api()["skipped"]


def test_every_source_is_of_the_backend():
    assert {path.parent for path in SOURCES} == {toolchain.ROOT / "csrc/metal"} and len(SOURCES) >= 12


@waits_for(uses)
def test_sources_are_read(background):
    """A parser that finds nothing would pass all else."""
    found = background.result(uses)
    assert len({m for of_one in found.values() for m in of_one["messages"] if m.startswith("MTL")}) >= 60
    assert len({n for of_one in found.values() for n in of_one["names"] if n.startswith("MTL")}) >= 20


def test_wrong_names_are_noticed(tmp_path):
    source = tmp_path / "wrong.mm"
    source.write_text("""#import <Metal/Metal.h>
void f(id<MTLDevice> device) {
  [device newBufferWithLenght:4 options:MTLResourceStorageModeShared];
  [device newBufferWithLength:4 options:MTLResourceStorageModeShard];
}
""")
    found = uses_of([source])[str(source)]
    assert "template wrong.mm" in found["messages"]  # of no declaration; elsewhere only objc.h has such ones
    assert ["MTLResourceStorageModeShard" in error for error in found["errors"]] == [True]


@waits_for(uses)
@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_messages_exist_in_both_sources(background, path):
    found = background.result(uses)[str(path)]
    assert found["errors"] == []
    _, real = compare.real_protocols()
    for message in found["messages"]:
        owner, selector = message.split()
        if owner == "template":
            assert selector == "objc.h"  # retain and release of whatever Owned holds
            continue
        if selector in ROOT_MESSAGES or owner.startswith(FOUNDATION):
            continue
        assert owner.startswith("MTL"), f"{message}: of an unknown object (id?)"
        classes = ancestors(owner)
        declared = {s[1:] for c in classes for s in api()["methods"].get(c, {})}
        assert selector in declared, f"{message}: not in metal-cpp"
        # PyObjC's binary has the protocols that a program may implement; the others are confirmed by metal-cpp alone.
        if all(c in real for c in classes if c in api()["protocols"]) and owner in api()["protocols"]:
            assert any(selector in real[c] for c in classes if c in real), f"{message}: not in the SDK's protocols"


@waits_for(uses)
@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_names_exist_in_both_sources(background, path):
    enumerators, ours = compare.real_enumerators(), compare.our_enumerators(api()["enums"])
    for name in background.result(uses)[str(path)]["names"]:
        if name in ("MTLCreateSystemDefaultDevice", "MTLCopyAllDevices", "MTLSizeMake") or name in api()["classes"]:
            continue
        if name in api()["constants"] or name in api()["numbers"] or name.startswith(FOUNDATION):
            continue
        assert ours[name] == enumerators[name], name


@waits_for(uses)
def test_the_oldest_sdk_has_them(background):
    """What the command line tools of macOS 13 came with at first: Xcode 14.3."""
    sdk, protocols = compare.real_protocols("pyobjc-sdk13")
    enumerators, numbered = compare.real_enumerators("pyobjc-sdk13"), compare.our_enumerators(api()["enums"])
    assert sdk == "13.3" and len(protocols) >= 30
    found = background.result(uses)
    names = {name for of_one in found.values() for name in of_one["names"]} & set(numbered)
    assert len(names) >= 20 and names <= set(enumerators), names - set(enumerators)
    messages = {tuple(message.split()) for of_one in found.values() for message in of_one["messages"]}
    compared = [(owner, selector) for owner, selector in messages if all(c in protocols for c in ancestors(owner) if c.startswith("MTL"))
                and owner in protocols and selector not in ROOT_MESSAGES]
    assert len(compared) >= 10
    assert [m for m in compared if not any(m[1] in protocols[c] for c in ancestors(m[0]) if c in protocols)] == []


def compiled(target: str) -> list[Path]:
    """csrc/metal and what knows of it, compiled for a Mac."""
    folder = apple.STUBS / target
    folder.mkdir(parents=True, exist_ok=True)
    csrc = toolchain.ROOT / "csrc"
    headers = [*csrc.rglob("*.h"), build.metal_header_file(), *(toolchain.HERE / "apple").rglob("*.h"), toolchain.HERE / "truth/apple.py"]
    objects = []
    knowing = [p for p in csrc.rglob("*.cpp") if "RWKVNATIVE_METAL" in p.read_text()]  # of the backend
    for source in [*SOURCES, *knowing, build.embedded_kernels(toolchain.ROOT)]:
        objects.append(folder / f"{source.name}.o")
        if not toolchain.newer(objects[-1], [source, *headers]):
            toolchain.command([*apple.compiler(target), "-DRWKVNATIVE_METAL", *build.warnings(), f"-I{csrc}", "-c", source, "-o", objects[-1]])
    return objects


COMPILED = {target: functools.partial(compiled, target) for target in apple.TARGETS}


@pytest.mark.parametrize("target", [pytest.param(t, marks=waits_for(COMPILED[t])) for t in apple.TARGETS])
def test_links_for(background, target):
    """Undefined is only what the rest of the package and the C++ library define: every class, constant and function of
    Apple's is exported by the stub of its library."""
    library = apple.STUBS / target / "libmetal_backend.dylib"
    apple.write_stubs()
    toolchain.command([*apple.linker(target), "-o", library, *background.result(COMPILED[target]), *apple.libraries(),
                       "-Wl,-undefined,dynamic_lookup"])
    listing = toolchain.command(["llvm-nm-19", "-m", "--undefined-only", library])
    loose = [line for line in listing.splitlines() if "dynamically looked up" in line]
    assert [line for line in loose if not re.search(r"rwkvnative|__ZN?K?St3__1|__ZNSt|__ZTI|__ZTV|__ZSt|__Zn|__Zd|_cxa_|gxx_personality", line)] == []
    assert "_OBJC_CLASS_$_MTLCompileOptions (from Metal)" in listing
    kind = toolchain.command(["llvm-readobj-19", "--file-headers", library])
    assert ("arm64" if "aarch64" in target else "x86-64") in kind.lower().replace("x86_64", "x86-64"), kind
