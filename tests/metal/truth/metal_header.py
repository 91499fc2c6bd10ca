"""Writes an Objective-C <Metal/Metal.h>, declarations only, from Apple's metal-cpp (Apache-2.0, in the mlx-metal wheel).

metal-cpp wraps each Objective-C message in an inline C++ method: its selector, argument and result types are all there. What
it cannot say, C structs and inline functions, is in device/include/Metal/Prelude.h.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

# C++ types of metal-cpp that are not a class, enum or struct of its own.
_BUILTIN = {
    "NS::UInteger": "NSUInteger", "NS::Integer": "NSInteger", "NS::Range": "NSRange", "NS::TimeInterval": "NSTimeInterval",
    "NS::ErrorDomain": "NSString *", "bool": "BOOL", "CFTimeInterval": "CFTimeInterval", "float": "float", "double": "double",
    "void": "void", "uint32_t": "uint32_t", "uint64_t": "uint64_t", "std::uint32_t": "uint32_t", "std::uint64_t": "uint64_t",
    "MTL::GPUAddress": "uint64_t", "MTL::Timestamp": "uint64_t", "MTL::BufferRange": "MTL4BufferRange",
    "MTL::AutoreleasedComputePipelineReflection": "MTLAutoreleasedComputePipelineReflection",
    "MTL::AutoreleasedRenderPipelineReflection": "MTLAutoreleasedRenderPipelineReflection",
}
_STRUCTS = {"MTLSize", "MTLOrigin", "MTLRegion", "MTLResourceID", "MTLSamplePosition", "MTLClearColor", "MTLViewport",
            "MTLScissorRect", "MTLSizeAndAlign", "MTLAccelerationStructureSizes", "MTLTextureSwizzleChannels",
            "MTLCoordinate2D", "MTLVertexAmplificationViewMapping", "MTLIndirectCommandBufferExecutionRange"}
_C_TYPES = ("dispatch_queue_t", "dispatch_data_t", "IOSurfaceRef", "kern_return_t", "task_id_token_t", "mach_port_t")
_BLOCK = re.compile(r"^void \(\^(\w+)\)\((.*)\)$", re.S)
_MESSAGE = re.compile(
    r"_MTL_INLINE\s+([^;{}]*?)\s*\b(MTL4?)::(\w+)::(\w+)\(([^{}]*)\)\s*(?:const)?\s*\{\s*(?:return\s+)?"
    r"(?:NS::)?Object::sendMessage(?:Safe)?<[^;]*?>\(\s*(this|_MTL_PRIVATE_CLS\(\w+\))\s*,\s*_MTL_PRIVATE_SEL\((\w+)\)")

# Where metal-cpp is wrong: Apple's own header has 0x3 << MTLResourceStorageModeShift here, PyObjC's metadata agrees.
_CORRECTIONS = {"MTLResourceStorageModeMemoryless": "48"}


@dataclass
class Method:
    result: str
    arguments: list[tuple[str, str]]  # type, name


@dataclass
class Api:
    """enums: name to (underlying type, kind, [(enumerator, value)]); methods: class to {"-selector": Method}."""

    enums: dict[str, tuple[str, str, list[tuple[str, str]]]] = field(default_factory=dict)
    constants: list[str] = field(default_factory=list)  # NSString *
    numbers: dict[str, str] = field(default_factory=dict)  # static const NSUInteger
    blocks: dict[str, str] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)
    protocols: set[str] = field(default_factory=set)
    methods: dict[str, dict[str, Method]] = field(default_factory=dict)
    skipped: list[tuple[str, str, str]] = field(default_factory=list)  # class, message, why


def objc_name(name: str) -> str:
    """MTL::Device to MTLDevice."""
    name = name.strip()
    for prefix in ("MTL4", "MTL", "NS"):
        if name.startswith(prefix + "::"):
            return prefix + name[len(prefix) + 2 :]
    return name


def read(folder: Path, prelude: Path) -> Api:
    """metal-cpp's headers in `folder`."""
    texts = {f.name: re.sub(r"//[^\n]*", "", f.read_text()) for f in sorted((folder / "Metal").glob("*.hpp"))}
    api = Api()
    for name, text in texts.items():
        _declarations(api, text, "MTL4" if name.startswith("MTL4") else "MTL")
    everything = "".join(texts.values())
    api.classes = set(re.findall(r"_MTL_PRIVATE_DEF_CLS\((\w+)\)", everything))
    named_protocols = set(re.findall(r"_MTL_PRIVATE_DEF_PRO\((\w+)\)", everything))
    api.protocols = (set(api.bases) | named_protocols) - api.classes
    selectors = dict(re.findall(r'_MTL_PRIVATE_DEF_SEL\((\w+),\s*"([^"]+)"\)', everything))
    for text in texts.values():
        for m in _MESSAGE.finditer(text):
            _message(api, selectors, m)
    _drop_unknown_types(api, set(re.findall(r"\w+", prelude.read_text())))
    return api


def _declarations(api: Api, text: str, prefix: str) -> None:
    for m in re.finditer(r"_MTL_(ENUM|OPTIONS)\(\s*([\w:]+)\s*,\s*(\w+)\s*\)\s*\{(.*?)\};", text, re.S):
        items = re.findall(r"(\w+)\s*=\s*([^,]+?)\s*(?:,|$)", m.group(4).strip())
        values = [(prefix + a, _CORRECTIONS.get(prefix + a, v)) for a, v in items]
        api.enums[prefix + m.group(3)] = (m.group(2), m.group(1), values)
    for m in re.finditer(r"_MTL_CONST\(\s*([\w:]+)\s*,\s*(\w+)\s*\)", text):
        api.constants.append(prefix + m.group(2))
    for m in re.finditer(r"static const NS::UInteger\s+(\w+)\s*=\s*static_cast<NS::UInteger>\(([^)]*)\)", text):
        api.numbers[prefix + m.group(1)] = m.group(2)
    for m in re.finditer(r"using\s+(\w+)\s*=\s*void\s*\(\^\)\s*\(([^;]*)\);", text):
        api.blocks[prefix + m.group(1)] = m.group(2)
    for m in re.finditer(r"class\s+(\w+)\s*:\s*public\s+NS::(\w+)<(\w+)(?:\s*,\s*([\w:]+))?>", text):
        base = (m.group(4) or "").replace("MTL4::", "MTL4").replace("MTL::", "MTL")
        api.bases[prefix + m.group(1)] = base if base.startswith(("MTL", "NS")) or not base else "MTL" + base


def _type(api: Api, text: str, array: bool = False) -> str | None:
    """The Objective-C type of a C++ one; None if it has none (references, std::function)."""
    text = re.sub(r"\s+", " ", text).strip()
    if text.endswith("Handler"):
        return objc_name(text.replace("const ", ""))
    m = re.match(r"^(const )?([\w:]+)\s*(\*?)\s*(const)?\s*(\*?)\s*$", text)
    if not m:
        return None
    const, base, star, _, second_star = m.groups()
    name = objc_name(base)
    if base in _BUILTIN:
        return (const or "") + _BUILTIN[base] + " *" * len(star + second_star) if star or array else _BUILTIN[base]
    if name in api.enums or name in _STRUCTS:
        return ("const " if const else "") + name + " *" if star else name
    if name in _C_TYPES:
        return name
    if name in api.protocols:
        result = f"id<{name}>"
    elif name in api.classes or name.startswith("NS"):
        result = name + " *"
    else:
        return name + (" *" if star else "")
    if not star:
        return None
    return result + ("" if result.endswith("*") else " ") + "*" if second_star else result


def _split(arguments: str) -> list[str]:
    result, depth, current = [], 0, ""
    for c in arguments:
        depth += (c in "(<[") - (c in ")>]")
        if c == "," and depth == 0:
            result.append(current)
            current = ""
        else:
            current += c
    return result + [current] if current.strip() else result


def _argument(api: Api, text: str) -> tuple[str, str] | str:
    """(type, name), or why there is none."""
    text = text.strip()
    if block := _BLOCK.match(text):
        types = [_type(api, re.sub(r"([\w:]+\s*\*?)\s*\w*$", r"\1", p.strip())) for p in _split(block.group(2))]
        return f"no type for {text}" if None in types else (f"void (^)({', '.join(map(str, types))})", block.group(1))
    m = re.match(r"^(.*?)(\w+)\s*(\[\])?$", text, re.S)
    if not m or "&" in m.group(1) or "std::function" in m.group(1):
        return "a C++ convenience"
    declared, name, array = m.group(1).strip(), m.group(2), bool(m.group(3))
    if not array:
        result = _type(api, declared)
    elif result := _type(api, re.sub(r"\s*const$", "", declared)):
        constant = result.startswith("id") or ("const" in declared and not result.startswith("const"))
        result = ("const " if constant else "") + result + " *"
    return (result, name) if result else f"no type for {declared}"


def _message(api: Api, selectors: dict[str, str], m: re.Match[str]) -> None:
    result, namespace, class_, name, parameters, receiver, key = m.groups()
    class_ = namespace + class_
    arguments = [_argument(api, p) for p in _split(parameters)]
    problems = [a for a in arguments if isinstance(a, str)]
    selector = selectors.get(key)
    type_ = _type(api, result)
    if selector is None:
        problems.append("no selector")
    elif type_ is None:
        problems.append(f"no type for {result}")
    elif selector.count(":") != len(arguments):
        problems.append("another number of arguments than the selector's")
    if problems:
        api.skipped.append((class_, selector or name, problems[0]))
        return
    sign = "-" if receiver == "this" else "+"
    api.methods.setdefault(class_, {})[sign + str(selector)] = Method(str(type_), [a for a in arguments if not isinstance(a, str)])


def _drop_unknown_types(api: Api, prelude: set[str]) -> None:
    known = api.protocols | api.classes | set(api.enums) | _STRUCTS | prelude | set(api.blocks)
    for class_, methods in api.methods.items():
        for selector, method in list(methods.items()):
            used = {w for t in [method.result, *(a for a, _ in method.arguments)] for w in re.findall(r"\bMTL\w+\b", t)}
            if used - known:
                api.skipped.append((class_, selector, f"unknown type {used - known}"))
                del methods[selector]


# ---------------------------------------------------------------- output


def _enum(name: str, underlying: str, kind: str, items: list[tuple[str, str]]) -> str:
    def value(text: str) -> str:
        text = text.replace("NS::UIntegerMax", "NSUIntegerMax")
        return re.sub(r"\b([A-Z][a-zA-Z]\w*)\b", lambda m: m[1] if m[1].startswith(("NS", "UINT", "MTL")) else "MTL" + m[1], text)

    values = ", ".join(f"{a} = {value(v)}" for a, v in items)
    return f"typedef NS_{kind}({_BUILTIN.get(underlying, underlying)}, {name}) {{ {values} }};"


def _block(api: Api, name: str, arguments: str) -> str:
    types = []
    for p in _split(arguments):
        p = re.sub(r"\b(?<![:\w])(?!NS::|MTL)([A-Z]\w+)(\s*\*)", r"MTL::\1\2", p.strip())
        named = re.search(r"[\w*&]\s+\w+$|\*\w+$", p) and not re.match(r"^[\w:]+$", p)
        types.append(_type(api, re.sub(r"(\*|\s)\s*\w+$", r"\1", p) if named else p) or "id")
    return f"typedef void (^{name})({', '.join(types)});"


def _declaration(selector: str, method: Method) -> str:
    sign, name = selector[0], selector[1:]
    if not method.arguments:
        return f"{sign} ({method.result}) {name};"
    parts = [f"{part}: ({type_}) {argument}" for part, (type_, argument) in zip(name.split(":"), method.arguments)]
    return f"{sign} ({method.result}) " + " ".join(parts) + ";"


def header(api: Api) -> str:
    """The text of Metal.h."""
    lines = ["// Generated by truth/metal_header.py from Apple's metal-cpp. Declarations only.", "#pragma once",
             "#import <Foundation/Foundation.h>", '#import "Prelude.h"']
    lines += [_enum(name, *enum) for name, enum in api.enums.items()]
    everything = sorted(set(api.methods) | api.protocols | api.classes)
    lines += [f"@protocol {c};" if c in api.protocols else f"@class {c};" for c in everything]
    lines += [_block(api, name, arguments) for name, arguments in sorted(api.blocks.items())]
    lines += [f"extern NSString * const {name};" for name in api.constants]
    lines += [f"static const NSUInteger {name} = (NSUInteger)({value});" for name, value in api.numbers.items()]
    done: set[str] = set()

    def emit(name: str) -> None:
        if name in done:
            return
        base = api.bases.get(name, "")
        if base in (api.protocols if name in api.protocols else api.classes):
            emit(base)
        else:
            base = ""
        done.add(name)
        lines.append(f"@protocol {name} <{base or 'NSObject'}>" if name in api.protocols else f"@interface {name} : {base or 'NSObject'}")
        lines.extend("  " + _declaration(*m) for m in sorted(api.methods.get(name, {}).items()))
        lines.append("@end")

    for name in everything:
        emit(name)
    lines += ['extern "C" id<MTLDevice> MTLCreateSystemDefaultDevice(void);', 'extern "C" NSArray *MTLCopyAllDevices(void);']
    return "\n".join(lines) + "\n"


def summary(api: Api) -> str:
    """What the checks need, as JSON."""
    methods = {c: {s: [m.result, [t for t, _ in m.arguments]] for s, m in ms.items()} for c, ms in api.methods.items()}
    return json.dumps({"methods": methods, "enums": {n: items for n, (_, _, items) in api.enums.items()}, "bases": api.bases,
                       "constants": api.constants, "numbers": list(api.numbers), "protocols": sorted(api.protocols),
                       "classes": sorted(api.classes), "skipped": api.skipped})
