"""Turns preprocessed MSL into C++ that clang takes with our metal_stdlib in front.

Most of MSL is C++ with extensions that a header can supply. What remains is rewritten here, token by token:

* `constant T x [[function_constant(n)]];` becomes a variable that the runtime sets before a dispatch;
* `template [[host_name("x")]] kernel R f<args>(...);` is noted for the kernel table;
* the attributes of kernel arguments are noted for the table and removed;
* `threadgroup T x[n];` in a kernel becomes thread-local: a worker runs one threadgroup at a time;
* the casts `(V)x`, and `T(x)` where T is a template parameter, convert vectors value by value, as MSL does and clang does not.

Nothing else is touched, line numbers included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from msl.tokens import MslError, Tokens

# Argument attributes that the runtime computes; the names of msl::Kind.
BUILTINS = {
    "thread_position_in_grid", "thread_position_in_threadgroup", "threadgroup_position_in_grid", "threads_per_threadgroup",
    "threadgroups_per_grid", "threads_per_grid", "thread_index_in_threadgroup", "thread_index_in_simdgroup",
    "simdgroup_index_in_threadgroup", "threads_per_simdgroup", "simdgroups_per_threadgroup",
}
_SAME = {"dispatch_threads_per_threadgroup": "threads_per_threadgroup"}
_RESOURCE = re.compile(r"(buffer|threadgroup)\s*\(\s*(\d+)\s*\)$")
_VECTOR = re.compile(r"(?:float|half|bfloat|bool|u?char|u?short|u?int|u?long)[234]$")


@dataclass(frozen=True)
class FunctionConstant:
    index: int
    name: str
    type: str


@dataclass(frozen=True)
class Argument:
    kind: str  # "buffer", "threadgroup_memory" or one of BUILTINS
    index: int
    read_only: bool


@dataclass
class Kernel:
    name: str
    arguments: list[Argument]
    is_template: bool
    max_threads: int = 0  # [[max_total_threads_per_threadgroup(n)]]


@dataclass(frozen=True)
class Instance:
    """A `[[host_name]]` instantiation of a kernel template."""

    host_name: str
    kernel: str
    template_arguments: str  # with its angle brackets


@dataclass
class Rewritten:
    source: str
    kernels: list[Kernel] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    constants: list[FunctionConstant] = field(default_factory=list)


def rewrite(source: str) -> Rewritten:
    tokens = Tokens(source)
    result = Rewritten("")
    limits = _declaration_attributes(tokens, result)
    _kernels(tokens, result, limits)
    _remaining_attributes(tokens)
    _casts(tokens, source)
    result.source = tokens.source()
    return result


# ---------------------------------------------------------------- attributes of declarations


def _declaration_attributes(tokens: Tokens, result: Rewritten) -> dict[int, int]:
    """Function constants, host names, and thread limits; returns the limits by the token that follows the attribute."""
    limits: dict[int, int] = {}
    i = 0
    while i < len(tokens):
        if tokens.text(i) != "[[":
            i += 1
            continue
        end = tokens.closing(i)
        body = tokens.join(i + 1, end).strip()
        constant = re.match(r"(?:metal::)?function_constant\s*\((.*)\)$", body, re.S)
        if constant:
            result.constants.append(_function_constant(tokens, i, end, constant.group(1)))
        elif body.startswith("host_name"):
            result.instances.append(_host_name(tokens, i, end, body))
        elif body == "kernel":
            tokens.blank(i, end + 1)
            tokens[i].kind, tokens[i].text = "name", "kernel "
        elif limit := re.match(r"max_total_threads_per_threadgroup\s*\(\s*(\d+)\s*\)$", body):
            limits[tokens.next(end)] = int(limit.group(1))
            tokens.blank(i, end + 1)
        i = end + 1
    return limits


def _function_constant(tokens: Tokens, i: int, end: int, index: str) -> FunctionConstant:
    name = tokens.previous(i)
    begin = name
    while tokens.text(tokens.previous(begin)) not in (";", "}", "{", ""):
        begin = tokens.previous(begin)
    if tokens.text(tokens.next(end)) != ";":
        raise MslError(f"function constant {tokens.text(name)}: expected ; after its attribute")
    if not re.fullmatch(r"\s*\d+\s*", index):
        raise MslError(f"function constant {tokens.text(name)}: the index must be a number, got {index}")
    type_ = re.sub(r"\b(constant|const|static|metal|::)\b", "", tokens.join(begin, name)).strip()
    result = FunctionConstant(int(index), tokens.text(name), type_)
    tokens.blank(begin, name)
    tokens[begin].kind, tokens[begin].text = "name", f"MSL_FUNCTION_CONSTANT {type_} "
    tokens.blank(i, end + 1)
    return result


def _host_name(tokens: Tokens, i: int, end: int, body: str) -> Instance:
    name = re.search(r'"([^"]*)"', body)
    before = tokens.previous(i)
    if not name or tokens.text(before) != "template":
        raise MslError(f"[[{body}]]: only explicit instantiations of kernel templates have host names here")
    statement = tokens.join(end + 1, tokens.find(end, ";"))
    # The function is the first template-id whose name is not decltype's: "kernel decltype(f<A>) f<A>", "kernel void f<A>(...)".
    function = re.search(r"\b([A-Za-z_]\w*)\s*<", statement)
    if not function:
        raise MslError(f"host_name({name.group(1)}): no template arguments in: {statement}")
    depth = 0
    for k in range(function.end() - 1, len(statement)):
        depth += {"<": 1, ">": -1}.get(statement[k], 0)
        if depth == 0:
            break
    tokens.blank(i, end + 1)
    return Instance(name.group(1), function.group(1), statement[function.end() - 1 : k + 1])


def _remaining_attributes(tokens: Tokens) -> None:
    """Those of declarations and function types: the definition's count."""
    for i in range(len(tokens)):
        if tokens.text(i) == "[[":
            end = tokens.closing(i)
            body = tokens.join(i + 1, end).strip()
            if _RESOURCE.match(body) or body in BUILTINS or body in _SAME:
                tokens.blank(i, end + 1)


# ---------------------------------------------------------------- kernels


def _kernels(tokens: Tokens, result: Rewritten, limits: dict[int, int]) -> None:
    for i in range(len(tokens)):
        if tokens.kind(i) != "name" or tokens.text(i).strip() != "kernel":
            continue
        before = tokens.previous(i)
        parenthesis = tokens.find(i, "(", ";")
        tokens[i].text = ""
        if tokens.text(before) == "template" or tokens.text(parenthesis) == ";":
            continue  # an explicit instantiation
        name = tokens.text(tokens.previous(parenthesis))
        end = tokens.closing(parenthesis)
        body = tokens.next(end)
        if tokens.text(body) != "{":
            continue  # a declaration
        is_template = False
        if tokens.text(before) == ">":
            angle = tokens.opening_angle(before)
            is_template = tokens.text(tokens.previous(angle)) == "template"
        kernel = Kernel(name, _arguments(tokens, name, parenthesis, end), is_template, limits.get(i, 0))
        bound = [(a.kind, a.index) for a in kernel.arguments if a.kind in ("buffer", "threadgroup_memory")]
        if len(set(bound)) != len(bound):
            raise MslError(f"{name}: two arguments share one binding index")
        result.kernels.append(kernel)
        _threadgroup_variables(tokens, body)


def _arguments(tokens: Tokens, kernel: str, parenthesis: int, end: int) -> list[Argument]:
    result = []
    for begin, stop in _split_arguments(tokens, parenthesis + 1, end):
        text = tokens.join(begin, stop).strip()
        if not text:
            continue
        attribute = re.search(r"\[\[\s*(.*?)\s*\]\]", text, re.S)
        if not attribute:
            raise MslError(f"{kernel}: argument without an attribute (bind it by index): {text}")
        result.append(_argument(kernel, text.split("[[")[0], attribute.group(1)))
        at = tokens.find(begin, "[[")
        tokens.blank(at, tokens.closing(at) + 1)
    return result


def _split_arguments(tokens: Tokens, begin: int, end: int) -> list[tuple[int, int]]:
    starts, depth, k = [begin], 0, begin
    while k < end:
        text = tokens.text(k)
        if tokens.kind(k) == "op" and text in "([{<":
            depth += 1
        elif tokens.kind(k) == "op" and text in ")]}>":
            depth -= 1
        elif text == "[[":
            k = tokens.closing(k)
        elif text == "," and depth == 0:
            starts.append(k + 1)
        k += 1
    return list(zip(starts, [s - 1 for s in starts[1:]] + [end]))


def _argument(kernel: str, declaration: str, attribute: str) -> Argument:
    read_only = bool(re.search(r"\b(const|constant)\b", declaration))
    resource = _RESOURCE.match(attribute)
    if not resource:
        name = _SAME.get(attribute, attribute)
        if name not in BUILTINS:
            raise MslError(f"{kernel}: argument attribute [[{attribute}]] is not supported")
        return Argument(name, 0, True)
    index = int(resource.group(2))
    if index > 30:
        raise MslError(f"{kernel}: [[{attribute}]]: a kernel has 31 bindings of a kind")
    if resource.group(1) == "buffer":
        if not re.search(r"\b(device|constant)\b", declaration):
            raise MslError(f"{kernel}: [[{attribute}]] argument is neither device nor constant: {declaration.strip()}")
        return Argument("buffer", index, read_only)
    if not re.search(r"\bthreadgroup\b", declaration):
        raise MslError(f"{kernel}: [[{attribute}]] argument is not threadgroup: {declaration.strip()}")
    return Argument("threadgroup_memory", index, read_only)


def _threadgroup_variables(tokens: Tokens, body: int) -> None:
    """Variables, not pointers or references to threadgroup memory."""
    for k in range(body, tokens.closing(body)):
        if tokens.text(k) == "threadgroup" and tokens.text(tokens.previous(k)) in (";", "{", "}"):
            declarator = [tokens.text(j) for j in range(k, tokens.find(k, ";", "=", "["))]
            if "*" not in declarator and "&" not in declarator:
                tokens[k].text = "static thread_local threadgroup"


# ---------------------------------------------------------------- casts


def _casts(tokens: Tokens, source: str) -> None:
    vectors = set(re.findall(r"\btypedef\s+(?:half|float|bfloat|u?char|u?short|u?int)[234]\s+(\w+)\s*;", source))
    vectors |= set(re.findall(r"\busing\s+(\w+)\s*=\s*(?:half|float|bfloat|u?char|u?short|u?int)[234]\s*;", source))
    generic = vectors | _template_type_parameters(tokens)
    for i in range(len(tokens)):
        if tokens.text(i) == "(":
            _c_cast(tokens, i, generic)
        elif tokens.kind(i) == "name" and tokens.text(i) in generic and tokens.text(tokens.next(i)) == "(":
            before = tokens.previous(i)
            if tokens.text(before) in ("typename", "class", "::", ".", "->"):
                continue
            if tokens.kind(before) == "name" and tokens.text(before) not in ("return", "case", "else"):
                continue  # a declaration
            tokens[i].text = f"::msl::make<{tokens.text(i)}>"


def _template_type_parameters(tokens: Tokens) -> set[str]:
    result = set()
    for i in range(len(tokens)):
        if tokens.text(i) in ("typename", "class") and tokens.text(tokens.previous(i)) in ("<", ","):
            name = tokens.next(i)
            if tokens.kind(name) == "name":
                result.add(tokens.text(name))
    return result


def _c_cast(tokens: Tokens, i: int, generic: set[str]) -> None:
    """`(V)x` becomes `(::msl::cast<V>())->*x`, an operator of the same precedence as a cast."""
    name = tokens.next(i)
    end = tokens.next(name)
    if not (_VECTOR.match(tokens.text(name)) or tokens.text(name) in generic) or tokens.text(end) != ")":
        return
    before = tokens.previous(i)
    if tokens.kind(before) == "name" and tokens.text(before) not in ("return", "case", "else"):
        return  # a call or a declaration
    if tokens.text(before) in ("]", ")", ">"):
        return
    operand = tokens.next(end)
    if tokens.kind(operand) in ("name", "number") or tokens.text(operand) in ("(", "-", "*", "+", "!", "~", "&"):
        tokens[i].text = "(::msl::cast<"
        tokens[end].text = ">())->*"
