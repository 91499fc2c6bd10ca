"""The C++ text behind a rewritten source: the table by which the runtime finds kernels and function constants."""

from __future__ import annotations

from msl.rewrite import Kernel, Rewritten
from msl.tokens import MslError


def generate(rewritten: Rewritten) -> str:
    kernels = {k.name: k for k in rewritten.kernels}
    lines = ["", "#include <msl/entry.h>"]
    lines += [f"{c.type} {c.name};" for c in rewritten.constants]
    for k in rewritten.kernels:
        rows = ", ".join(f"{{msl::{a.kind}, {a.index}, {int(a.read_only)}}}" for a in k.arguments)
        # A kernel without arguments has an empty list, which C++ does not.
        lines.append(f"static constexpr msl::Binding msl_bindings_{k.name}[] = {{{rows or '{msl::n_kinds, 0, 1}'}}};")
    lines.append('extern "C" const msl::KernelEntry msl_kernels[] = {')
    names = set()
    for instance in rewritten.instances:
        if instance.kernel not in kernels:
            raise MslError(f'host_name("{instance.host_name}") names an unknown kernel: {instance.kernel}')
        kernel = kernels[instance.kernel]
        lines.append(_entry(instance.host_name, instance.kernel + instance.template_arguments, kernel))
        _unique(names, instance.host_name)
    for k in rewritten.kernels:
        if not k.is_template:
            lines.append(_entry(k.name, k.name, k))
            _unique(names, k.name)
    lines.append("  {nullptr, nullptr, nullptr, 0, 0}};")
    lines.append('extern "C" const msl::FunctionConstant msl_constants[] = {')
    indices: set[int] = set()
    for c in rewritten.constants:
        lines.append(f'  {{{c.index}, "{c.name}", "{c.type}", (void*)&{c.name}, sizeof({c.name})}},')
        if c.index in indices:
            raise MslError(f"two function constants have index {c.index}")
        indices.add(c.index)
    lines.append("  {-1, nullptr, nullptr, nullptr, 0}};")
    return "\n".join(lines) + "\n"


def _entry(name: str, function: str, kernel: Kernel) -> str:
    bindings = f"msl_bindings_{kernel.name}"
    return f'  {{"{name}", &msl::Entry<(&{function}), {bindings}>::run, {bindings}, {len(kernel.arguments)}, {kernel.max_threads}}},'


def _unique(names: set[str], name: str) -> None:
    if name in names:
        raise MslError(f"two kernels are called {name}")
    names.add(name)
