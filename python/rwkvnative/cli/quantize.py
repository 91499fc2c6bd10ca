"""``rwkvnative quantize``: write a model with smaller weights."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from . import options as opt
from .terminal import ProgressBar, command, print_json, write


@command
def quantize(
    source: Annotated[str, typer.Argument(metavar="IN", help="GGUF file to read.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="GGUF file to write.")],
    kind: Annotated[str, typer.Option("--type", help="What the matrices become, for instance q4_k_m, q5_k_m, q6_k, q8_0, f16.")] = "q4_k_m",
    allow_requantize: Annotated[bool, typer.Option("--allow-requantize", help="Also quantize what is quantized; errors add up.")] = False,
    threads: opt.Threads = None,
    json: opt.Json = False,
) -> None:
    """Write a model with smaller weights."""
    from ..quantize import quantize_file

    begin = time.perf_counter()
    with ProgressBar(f"quantizing to {kind}") as progress:
        made = quantize_file(source, target, kind, progress, allow_requantize=allow_requantize, n_threads=threads or 0)
    if json:
        print_json(
            {
                "source": source,
                "target": target,
                "type": kind,
                "source_bytes": made.source_bytes,
                "target_bytes": made.n_bytes,
                "tensor_types": made.type_counts,
            }
        )
        return
    counts = ", ".join(f"{n} {name}" for name, n in made.type_counts.items())
    share = 100 * made.n_bytes / made.source_bytes
    seconds = time.perf_counter() - begin
    write(f"{target}: {made.n_bytes / 1e6:.1f} MB, {share:.1f} % of {made.source_bytes / 1e6:.1f} MB ({counts}), in {seconds:.1f} s\n")
