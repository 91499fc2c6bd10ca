"""How far logits are from the float64 oracle: llama.cpp's CPU backend and this package's, on the same files.

    python benchmarks/logits_error.py --llama-logits PROGRAM [--shapes small] [--types Q8_0 Q6_K] [--devices cpu webgpu:llvmpipe]
        [--numerics int8 f32] [--models 4] [--sequences 8] [--tokens 64] [--chunks 1 64] [--noise 12] [--save FILE]
    python benchmarks/logits_error.py --table FILE...

PROGRAM is benchmarks/llama_logits.cpp, compiled against a built llama.cpp (how is said there). For every shape and type,
--models random models (tests/synthetic.py) are written; each reads --sequences random texts of --tokens tokens from an empty
state, --chunks of them a call. A run is one text of one model. The error of a row is the length of its difference from the
oracle's row, over the root mean square length of the oracle's rows (tests/engines.py).

A line of the table: a shape, a type, a chunk, an engine; over all runs, in 1e-2: the mean row; the worst row of a run, the median
and the largest of all runs; the largest difference of one logit, over the root mean square logit, the median of runs. Then the
mean row and the worst row over llama.cpp's, run by run: the geometric mean of the ratios with its 95 % interval (two standard
errors, each model a sample of its own: its texts share what its weights amplify), and in how many of the runs ours is the larger.
--noise N tells an engine's share in a row's error from the model's: the oracle reads each text N times more with every input of a
quantized matrix off by a random half of a step of its int8 scale (of 32 values), and a row's expected error is the root mean
square of theirs. The last columns are then the root mean square, over all rows, of error over expected error, and where in its
text the worst row of a run lies (the median).
--save appends one JSON line per model and engine, so that a measurement can be made in pieces; --table prints such files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import webgpu_devices  # noqa: F401: makes the software GPUs visible
from engines import open_engine
from logit_errors import MIXES, SHAPES, engine_logits, expected_errors, model_of, oracle_logits, text_errors, texts_of
from synthetic import ALL_TYPES, SyntheticModel, write_model

PEER = "llama.cpp"


def peer_logits(program: Path, path: Path, texts: np.ndarray, chunk: int) -> np.ndarray:
    """llama.cpp's logits [texts, tokens, vocabulary], float32."""
    tokens, logits = path.with_suffix(".tokens"), path.with_suffix(".logits")
    texts.tofile(tokens)
    subprocess.run([program, path, tokens, logits, str(texts.shape[1]), str(chunk)], check=True)
    return np.fromfile(logits, np.float32).reshape(*texts.shape, -1)


def errors(got: np.ndarray, expected: np.ndarray, noise: np.ndarray | None) -> dict[str, list[float]]:
    """For each text: the mean row's error, the worst row's and its place, the largest difference over the root mean square
    logit; with `noise` (logit_errors.expected_errors) the root mean square over the rows of error over expected error."""
    rows = text_errors(got, expected)
    out = {"mean": rows.mean(1), "worst": rows.max(1), "worst_at": rows.argmax(1),
           "largest": np.abs(got - expected).max((1, 2)) / np.sqrt((expected**2).mean((1, 2)))}
    if noise is not None:
        out["over_noise"] = np.sqrt(((rows / noise) ** 2).mean(1))
    return {key: [float(f"{value:.4g}") for value in values] for key, values in out.items()}


def measure_model(args: argparse.Namespace, model: SyntheticModel, texts: np.ndarray, folder: Path):
    """Yields (engine's name, chunk, errors) of every engine."""
    expected = oracle_logits(model, texts)
    noise = expected_errors(model, texts, expected, args.noise)
    if args.llama_logits:
        write_model(folder / "model.gguf", model)
        for chunk in args.chunks:
            got = peer_logits(args.llama_logits.resolve(), folder / "model.gguf", texts, chunk)
            yield PEER, chunk, errors(got, expected, noise)
    for device in args.devices:
        for numerics in args.numerics:
            engine = open_engine(model, device, numerics=numerics)
            for chunk in args.chunks:
                name = " ".join([device, numerics, *filter(None, [os.environ.get("RWKVNATIVE_WEBGPU_TUNING", "")])])
                yield name, chunk, errors(engine_logits(engine, texts, chunk), expected, noise)


def measure(args: argparse.Namespace):
    for shape in args.shapes:
        for type_name in args.types:
            for seed in range(args.first_model, args.first_model + args.models):
                model = model_of(shape, type_name, seed)
                texts = texts_of(model, seed, args.sequences, args.tokens)
                with tempfile.TemporaryDirectory() as folder:
                    for engine, chunk, found in measure_model(args, model, texts, Path(folder)):
                        yield dict(shape=shape, type=type_name, model=seed, tokens=args.tokens, chunk=chunk, engine=engine, **found)


def ratio(ours: np.ndarray, peer: np.ndarray) -> str:
    """[models, texts] each: the geometric mean of ours / peer, its 95 % interval, and how often it is above one."""
    logs = np.log(ours / peer)
    samples = logs.mean(1) if len(logs) > 2 else logs.reshape(-1)  # too few models: the texts
    middle, spread = logs.mean(), 2 * samples.std(ddof=1) / np.sqrt(samples.size)
    return f"{np.exp(middle):.3f} ({np.exp(middle - spread):.3f}..{np.exp(middle + spread):.3f}), {(logs > 0).sum()} of {logs.size}"


HEAD = ("shape", "type", "chunk", "engine", "mean row", "worst row: median", "largest", "one logit", "mean over llama.cpp's",
        "worst over llama.cpp's", "over noise", "worst row at")


def table(records: list[dict]) -> None:
    groups = defaultdict(dict)
    for r in records:
        groups[r["shape"], r["type"], r["tokens"], r["chunk"]].setdefault(r["engine"], {})[r["model"]] = r
    print("| " + " | ".join(HEAD) + " |\n" + len(HEAD) * "|---" + "|")
    for (shape, type_name, _, chunk), engines in groups.items():
        for engine, models in engines.items():
            def values(key, models=models, seeds=sorted(models)):
                """[models, texts]"""
                return np.array([models[seed][key] for seed in seeds])

            cells = [values("mean").mean(), np.median(values("worst")), values("worst").max(), np.median(values("largest"))]
            cells = [f"{100 * cell:.3g}" for cell in cells]
            peer = engines.get(PEER, {})
            comparable = engine != PEER and models.keys() <= peer.keys()
            cells += [ratio(values(key), values(key, peer)) if comparable else "" for key in ("mean", "worst")]
            noisy = all("over_noise" in record for record in models.values())
            cells.append(f"{np.sqrt((values('over_noise') ** 2).mean()):.3f}" if noisy else "")
            cells.append(f"{np.median(values('worst_at')):.0f}")
            print("| " + " | ".join([shape, type_name, str(chunk), engine, *cells]) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-logits", type=Path, help="the compiled benchmarks/llama_logits.cpp")
    parser.add_argument("--shapes", nargs="+", default=["small"], choices=SHAPES)
    parser.add_argument("--types", nargs="+", default=[*ALL_TYPES, *MIXES])
    parser.add_argument("--devices", nargs="*", default=["cpu"])
    parser.add_argument("--numerics", nargs="+", default=["int8", "f32"])
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--first-model", type=int, default=0, help="the seed of the first model")
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--noise", type=int, default=0)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--table", type=Path, nargs="+")
    args = parser.parse_args()
    if args.table:
        table([json.loads(line) for path in args.table for line in path.read_text().splitlines()])
        return
    records = []
    for record in measure(args):
        records.append(record)
        if args.save:
            with args.save.open("a") as file:
                file.write(json.dumps(record) + "\n")
    table(records)


if __name__ == "__main__":
    main()
