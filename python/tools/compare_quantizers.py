"""Compare our quantizer with llama-quantize on the same unquantized GGUF, tensor by tensor.

    python python/tools/compare_quantizers.py MODEL-f32.gguf --llama-quantize /path/to/llama-quantize [--types q4_k_m q6_k ...] [-v]

Both quantize the file to each type; then, for every tensor, the types must be equal and the errors are compared. Both results are read
with the `gguf` package, so neither side's own dequantizer is trusted. Printed per tensor type (with -v per tensor):

    ours, llama     relative RMSE: sqrt(sum (y - x)^2 / sum x^2)
    ratio           ours / llama: below 1 is better
    weighted        the same ratio with each squared error weighted by |x| + rms(x) over its 32 neighbours, the weights that
                    llama-quantize minimizes for Q4_K and Q5_K when it has no importance matrix

Exit status 1 if a type differs, or if our RMSE is above llama-quantize's for any tensor.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np

from rwkvnative.quantize import FILE_TYPES, quantize_file


class Errors(NamedTuple):
    """Sums of squares over one tensor (or several)."""

    signal: float
    plain: float
    weighted: float

    def __add__(self, other: Errors) -> Errors:  # type: ignore[override]
        return Errors(*(a + b for a, b in zip(self, other)))


def errors(exact: np.ndarray, approximate: np.ndarray) -> Errors:
    x = exact.astype(np.float64).ravel()
    squared = np.square(approximate.astype(np.float64).ravel() - x)
    groups = x.reshape(-1, 32)
    weights = np.abs(groups) + np.sqrt(np.mean(np.square(groups), axis=1, keepdims=True))
    return Errors(float(np.sum(np.square(x))), float(squared.sum()), float(np.sum(squared * weights.ravel())))


def compare(source: Path, llama_quantize: Path, name: str, folder: Path, verbose: bool) -> bool:
    """Prints the table of one type; True if nothing is worse or different."""
    ours_path, llama_path = folder / "ours.gguf", folder / "llama.gguf"
    started = time.perf_counter()
    quantize_file(source, ours_path, name)
    ours_seconds = time.perf_counter() - started
    started = time.perf_counter()
    subprocess.run([llama_quantize, source, llama_path, name.upper()], check=True, capture_output=True)
    llama_seconds = time.perf_counter() - started

    readers = [gguf.GGUFReader(path) for path in (source, ours_path, llama_path)]
    exact, ours, llama = ({t.name: t for t in reader.tensors} for reader in readers)
    file_types = [reader.fields["general.file_type"].contents() for reader in readers[1:]]
    good = file_types[0] == file_types[1] and ours.keys() == llama.keys()
    if not good:
        print(f"{name}: file_type or tensor names differ: {file_types}")

    sums: dict[str, list[Errors]] = defaultdict(lambda: [Errors(0, 0, 0), Errors(0, 0, 0)])
    worst: dict[str, float] = defaultdict(float)
    n_worse: dict[str, int] = defaultdict(int)
    n_tensors: dict[str, int] = defaultdict(int)
    for tensor in ours.values():
        peer, original = llama[tensor.name], exact[tensor.name]
        if tensor.tensor_type != peer.tensor_type:
            print(f"{name}: {tensor.name} is {tensor.tensor_type.name}, llama-quantize makes it {peer.tensor_type.name}")
            good = False
            continue
        if tensor.tensor_type == original.tensor_type:
            if not np.array_equal(tensor.data, original.data):
                print(f"{name}: {tensor.name} should have been copied, but its bytes differ")
                good = False
            continue
        x = gguf.quants.dequantize(original.data, original.tensor_type)
        mine, theirs = (errors(x, gguf.quants.dequantize(t.data, t.tensor_type)) for t in (tensor, peer))
        kind = tensor.tensor_type.name
        ratio = np.sqrt(mine.plain / theirs.plain) if theirs.plain else (1.0 if mine.plain == 0 else np.inf)
        sums[kind] = [sums[kind][0] + mine, sums[kind][1] + theirs]
        worst[kind] = max(worst[kind], ratio)
        n_worse[kind] += ratio > 1.0
        n_tensors[kind] += 1
        if verbose:
            print(f"    {kind:7} {tensor.name:36} {np.sqrt(mine.plain / (mine.signal or 1)):9.3e}  {ratio:.4f}")
    for kind, (mine, theirs) in sums.items():
        ratio, weighted = (np.sqrt(a / b) if b else 1.0 for a, b in ((mine.plain, theirs.plain), (mine.weighted, theirs.weighted)))
        relative = [np.sqrt(e.plain / e.signal) for e in (mine, theirs)]
        print(
            f"{name:7} {kind:7} {n_tensors[kind]:4} {relative[0]:10.4e} {relative[1]:10.4e} {ratio:7.4f} {worst[kind]:7.4f} "
            f"{n_worse[kind]:5}   {weighted:7.4f}   {ours_seconds:5.1f} s {llama_seconds:5.1f} s"
        )
        good = good and n_worse[kind] == 0
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an rwkv7 GGUF with F32, F16 or BF16 matrices")
    parser.add_argument("--llama-quantize", type=Path, required=True, help="path of the llama-quantize binary")
    parser.add_argument("--types", nargs="+", default=list(FILE_TYPES), choices=list(FILE_TYPES), metavar="TYPE")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line per tensor")
    options = parser.parse_args()
    print("file    tensors    n       ours      llama   ratio   worst worse  weighted    ours   llama")
    with tempfile.TemporaryDirectory() as folder:
        results = [compare(options.model, options.llama_quantize, name, Path(folder), options.verbose) for name in options.types]
    print("all types equal, no tensor worse" if all(results) else "DIFFERENT OR WORSE: see above")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
