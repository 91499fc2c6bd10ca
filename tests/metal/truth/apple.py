"""Compiles and links for macOS: zig's clang and linker, Apple's Objective-C headers out of zig, declarations of Foundation
(apple/Foundation) and Metal (generated), and stubs of the libraries, which name what they export."""

from __future__ import annotations

import json
from pathlib import Path

import build
import toolchain

TARGETS = ("aarch64-macos.13.0", "x86_64-macos.13.0")
STUBS = toolchain.OWN / "apple"

_OBJC_SYMBOLS = """_objc_msgSend _objc_msgSend_stret _objc_msgSendSuper2 _objc_autoreleasePoolPush _objc_autoreleasePoolPop _objc_alloc
_objc_alloc_init _objc_release _objc_retain _objc_autorelease _objc_opt_self _objc_opt_class _objc_opt_new _objc_opt_isKindOfClass
_objc_opt_respondsToSelector _objc_exception_throw ___objc_personality_v0 __objc_empty_cache _objc_enumerationMutation""".split()
_FOUNDATION_CLASSES = """NSArray NSBundle NSData NSDictionary NSError NSMutableArray NSMutableDictionary NSNumber NSProcessInfo NSString NSURL
NSFileManager""".split()
_FOUNDATION_SYMBOLS = ["_NSLocalizedDescriptionKey"]


def _stub(path: Path, install_name: str, symbols: list[str], classes: list[str]) -> None:
    toolchain.put(path, f"""--- !tapi-tbd
tbd-version: 4
targets: [ x86_64-macos, arm64-macos ]
install-name: '{install_name}'
exports:
  - targets: [ x86_64-macos, arm64-macos ]
    symbols: [ {', '.join(symbols)} ]
    objc-classes: [ {', '.join(classes)} ]
...
""")


def write_stubs() -> None:
    """Metal's stub exports what its declarations say: a misspelt class or constant does not link."""
    build.metal_header_file()
    api = json.loads((build.HEADERS / "metal_api.json").read_text())
    framework = "/System/Library/Frameworks/{0}.framework/Versions/A/{0}"
    constants = [f"_{name}" for name in api["constants"]]
    _stub(STUBS / "Metal.framework/Metal.tbd", framework.format("Metal"),
          ["_MTLCreateSystemDefaultDevice", "_MTLCopyAllDevices", *constants], api["classes"])
    _stub(STUBS / "Foundation.framework/Foundation.tbd", framework.format("Foundation"), _FOUNDATION_SYMBOLS, _FOUNDATION_CLASSES)
    _stub(STUBS / "CoreFoundation.framework/CoreFoundation.tbd", framework.format("CoreFoundation"),
          ["___CFConstantStringClassReference"], [])
    _stub(STUBS / "libobjc.tbd", "/usr/lib/libobjc.A.dylib", _OBJC_SYMBOLS, ["NSObject"])


def compiler(target: str) -> list[str | Path]:
    """zig's clang with the declarations in reach; for TARGETS[0] the oldest that Apple has with the C++ that csrc is written in.
    There, what a macOS of the target's version lacks of the C++ library is an error, as in Apple's."""
    oldest = [toolchain.FOLDER / "zig-llvm16/ziglang/zig", "c++"]
    newest = [toolchain.FOLDER / "venv/bin/python", "-m", "ziglang", "c++"]
    return [*(oldest if target == TARGETS[0] else newest), "-target", target, "-std=c++20", "-fblocks", "-O0", "-g0",
            "-fno-sanitize=undefined", "-U_LIBCPP_HAS_NO_VENDOR_AVAILABILITY_ANNOTATIONS",
            "-I", toolchain.HERE / "apple", "-I", build.HEADERS]


def linker(target: str) -> list[str | Path]:
    """The C driver: the C++ one would first build its own libc++."""
    return [toolchain.FOLDER / "venv/bin/python", "-m", "ziglang", "cc", "-target", target, "-shared"]


def libraries() -> list[str | Path]:
    return ["-F", STUBS, "-framework", "Foundation", "-framework", "Metal", "-framework", "CoreFoundation", "-L", STUBS, "-lobjc"]


def emitted_protocols(names: list[str]) -> Path:
    """A library for x86-64 that holds what the compiler makes of the generated declarations of these protocols."""
    write_stubs()
    source, target = STUBS / "protocols.mm", STUBS / "protocols.dylib"
    uses = "\n".join(f"  *out++ = (const void*)@protocol({name});" for name in names)
    source.write_text(f"#import <Foundation/Foundation.h>\n#import <Metal/Metal.h>\nvoid uses(const void** out) {{\n{uses}\n}}\n")
    compiled = STUBS / "protocols.o"
    toolchain.command([*compiler(TARGETS[1]), "-c", source, "-o", compiled])
    toolchain.command([*linker(TARGETS[1]), compiled, "-o", target, *libraries()])
    return target
