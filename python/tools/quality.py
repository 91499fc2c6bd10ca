"""What each weight type costs: held-out loss of a model in every type that `rwkvnative quantize` writes.

    python python/tools/quality.py MODEL-F32.gguf [TEXT] [--device cpu] [--md]

Loss is the mean negative log-likelihood of the text's tokens in nats; KL is the mean divergence of the next-token
distribution from the F32 model's. A line `<s>` separates documents: each is read from a fresh state and ends with the
end-of-text token; its first token is not scored. TEXT defaults to the package's held-out stories.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from rwkvnative import Model, quantize_file

TYPES = ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_0", "q4_k_m", "q4_0", "iq4_nl", "iq4_xs", "q3_k_m", "q2_k")
HELD_OUT = Path(__file__).parent.parent / "rwkvnative" / "data" / "heldout.txt"
SEPARATOR = "\n<s>\n"


def log_probabilities(model: Model, tokens: list[int]) -> np.ndarray:
    """float32 [T - 1, V]: after each token but the last, the distribution of the next."""
    logits, _ = model.forward(tokens[:-1], all_logits=True)
    logits = np.atleast_2d(logits)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path, nargs="?", default=HELD_OUT)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--types", nargs="+", default=TYPES)
    args = parser.parse_args()
    documents = args.text.read_text(encoding="utf-8").split(SEPARATOR)

    reference: list[np.ndarray] = []
    base = 0.0
    print("| type | file, MB | loss, nats/token | loss over F32 | KL from F32 |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.types:
            path = Path(folder) / f"{name}.gguf"
            quantize_file(args.model, path, name)
            with Model(path, device=args.device) as model:
                encoded = [[*model.tokenizer.encode(text), model.tokenizer.eos_id] for text in documents]
                distributions = [log_probabilities(model, tokens) for tokens in encoded]
            reference = reference or distributions
            scored = sum(len(tokens) - 1 for tokens in encoded)
            loss = -sum(float(logp[np.arange(len(tokens) - 1), tokens[1:]].sum(dtype=np.float64))
                        for tokens, logp in zip(encoded, distributions, strict=True)) / scored
            divergence = sum(float((np.exp(p) * (p - q)).sum(dtype=np.float64))
                             for p, q in zip(reference, distributions, strict=True)) / scored
            base = base or loss
            print(f"| {name} | {path.stat().st_size / 1e6:.1f} | {loss:.4f} | {loss - base:+.4f} | {divergence:.5f} |", flush=True)


if __name__ == "__main__":
    main()
