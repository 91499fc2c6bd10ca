"""What each weight type costs: held-out loss of a model in every type that `rwkvnative quantize` writes.

    python python/tools/quality.py MODEL-F32.gguf [TEXT] [--device cpu] [--types q8_0 ...]

Loss is the mean negative log-likelihood of the text's tokens in nats; KL is the mean divergence of the next-token
distribution from the F32 model's (rwkvnative.bench.quality has both). TEXT defaults to the package's held-out stories.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rwkvnative import Model, quantize_file
from rwkvnative.bench.quality import quality

TYPES = ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_0", "q4_k_m", "q4_0", "iq4_nl", "iq4_xs", "q3_k_m", "q2_k")
HELD_OUT = Path(__file__).parent.parent / "rwkvnative" / "data" / "heldout.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path, nargs="?", default=HELD_OUT)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--types", nargs="+", default=TYPES)
    args = parser.parse_args()
    text = args.text.read_text(encoding="utf-8")

    print("| type | file, MB | loss, nats/token | loss over F32 | KL from F32 |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, Model(args.model, device=args.device) as reference:
        base = quality(reference, text).loss
        for name in args.types:
            path = Path(folder) / f"{name}.gguf"
            quantize_file(args.model, path, name)
            with Model(path, device=args.device) as model:
                got = quality(model, text, reference)
            print(f"| {name} | {path.stat().st_size / 1e6:.1f} | {got.loss:.4f} | {got.loss - base:+.4f} | {got.kl_divergence:.5f} |", flush=True)


if __name__ == "__main__":
    main()
