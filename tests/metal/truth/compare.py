"""Holds the generated declarations against what Apple's own compiler and SDK left in PyObjC: encodings and enumerators."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import toolchain
from truth import apple
from truth.macho import MachO


def real_protocols(of: str = "pyobjc") -> tuple[str, dict[str, dict[str, str]]]:
    """The SDK's version, and its Metal protocols as Apple's clang encoded them."""
    extension, = (toolchain.FOLDER / of / "Metal").glob("_Metal*.so")
    file = MachO.read(extension)
    return file.sdk, {name: methods for name, methods in file.protocols().items() if name.startswith("MTL")}


def canonical(encoding: str) -> str:
    """Without struct tags that differ by typedef, const, names and protocol lists."""
    encoding = re.sub(r"\{_?(\w+|\?)=", "{", encoding).replace("r^", "^").replace("r@", "@")
    return re.sub(r"<[^>]*>", "", re.sub(r'"[^"]*"', "", encoding))


@dataclass
class Comparison:
    equal: int = 0
    different: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)  # in the SDK, not in metal-cpp


def encodings(protocols: set[str]) -> Comparison:
    _, real = real_protocols()
    names = sorted(set(real) & protocols)
    ours = MachO.read(apple.emitted_protocols(names)).protocols()
    result = Comparison()
    for name in names:
        for selector, encoding in real[name].items():
            mine = ours[name].get(selector)
            if mine is None:
                result.absent.append(f"-[{name} {selector}]")
            elif canonical(mine) == canonical(encoding):
                result.equal += 1
            else:
                result.different.append(f"-[{name} {selector}]: SDK {encoding}, ours {mine}")
    return result


def real_enumerators(of: str = "pyobjc") -> dict[str, int]:
    text = Path(toolchain.FOLDER / of / "Metal/_metadata.py").read_text()
    return {name: int(value) for name, value in re.findall(r"\b(MTL\w+)@(-?\d+)", text)}


def our_enumerators(enums: dict[str, list[list[str]]]) -> dict[str, int]:
    """Values of the generated header's enumerators, each an expression of numbers and earlier ones."""
    result: dict[str, int] = {}
    for items in enums.values():
        for name, text in items:
            text = re.sub(r"\b(0x[0-9a-fA-F]+|\d+)[uUlL]+", r"\1", text.replace("NS::UIntegerMax", str(2**64 - 1)))
            text = re.sub(r"\b([A-Z]\w+)\b", lambda m: str(result.get("MTL" + m[1], result.get(m[1], m[1]))), text)
            if not re.fullmatch(r"[\d\sxa-fA-F()<>|+-]+", text):
                raise ValueError(f"{name}: cannot read {text}")
            result[name] = eval(text)  # digits and operators only
    return result


def enumerators(enums: dict[str, list[list[str]]]) -> Comparison:
    real, ours = real_enumerators(), our_enumerators(enums)
    result = Comparison(absent=sorted(set(real) - set(ours)))
    for name in sorted(set(real) & set(ours)):
        if real[name] % 2**64 == ours[name] % 2**64:
            result.equal += 1
        else:
            result.different.append(f"{name}: SDK {real[name]}, ours {ours[name]}")
    return result
