"""How far logits are from the oracle's, and how far rounding of activations must bring them: for tests and benchmarks.

The models, texts and measures that benchmarks/logits_error.py compares llama.cpp and this package by, and that
tests/fixtures/llama_logits.jsonl holds llama.cpp's numbers of.
"""

from __future__ import annotations

import numpy as np
from engines import random_tokens, row_errors
from oracle import Oracle
from synthetic import SyntheticModel, build_model

SHAPES = {
    "tiny": dict(n_embd=256, n_layer=2),  # of the fixture
    "small": dict(n_embd=512, n_layer=4, n_ff=2048, n_vocab=1000),
    "deep": dict(n_embd=256, n_layer=12, n_ff=1024, n_vocab=1000),
    "0.1b": dict(n_embd=768, n_layer=12, n_ff=3072, n_vocab=65536, ranks=(64, 64, 32, 128)),
}
MIXES = {"Q4_K_M": dict(type="Q4_K", head_type="Q6_K"), "Q5_K_M": dict(type="Q5_K", head_type="Q6_K")}


def model_of(shape: str, type_name: str, seed: int) -> SyntheticModel:
    """LoRA matrices in float16, as converted files have them, but for the file of float32."""
    options = {"lora_type": "F32" if type_name == "F32" else "F16", **MIXES.get(type_name, dict(type=type_name))}
    return build_model(**SHAPES[shape], **options, seed=seed)


def texts_of(model: SyntheticModel, seed: int, n_texts: int, n_tokens: int) -> np.ndarray:
    """int32 [texts, tokens], of their own for each model."""
    return np.stack([random_tokens(n_tokens, model.shape.n_vocab, 1000 * seed + i) for i in range(n_texts)])


def oracle_logits(model: SyntheticModel, texts: np.ndarray) -> np.ndarray:
    """float64 [texts, tokens, vocabulary], each text from an empty state."""
    oracle = Oracle.from_model(model)
    return np.stack([oracle.forward(text)[0] for text in texts])


def engine_logits(engine, texts: np.ndarray, chunk: int) -> np.ndarray:
    """As `oracle_logits`, float32, `chunk` tokens a call."""
    rows = []
    for text in texts:
        state = engine.new_state()
        rows += [engine.forward(text[i:i + chunk], state, state, "all") for i in range(0, len(text), chunk)]
    return np.concatenate(rows).reshape(*texts.shape, -1)


class NoisyOracle(Oracle):
    """The oracle with inputs of quantized matrices off by what rounding to int8 may do to them, at random.

    Each value by up to half a step of the scale that the largest of its 32 values asks for. `rng` must be set, and
    int8_activations=True: it says which matrices these are.
    """

    rng: np.random.Generator

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        name += ".weight"
        if name in self._int8_inputs:
            blocks = x.reshape(*x.shape[:-1], -1, 32)
            step = np.abs(blocks).max(-1, keepdims=True) / 127
            x = (blocks + step * self.rng.uniform(-0.5, 0.5, blocks.shape)).reshape(x.shape)
        return x @ self.weights[name].T


def expected_errors(model: SyntheticModel, texts: np.ndarray, logits: np.ndarray, n: int) -> np.ndarray | None:
    """[texts, tokens]: the root mean square error of each row over n readings by a NoisyOracle; `logits` are the oracle's.

    What rounding costs a row is a matter of the row: at the start of a text, group norm may amplify it by ten.
    None where no matrix is quantized, or n is 0.
    """
    noisy = NoisyOracle.from_model(model, int8_activations=True)
    if not n or not noisy._int8_inputs:
        return None
    noisy.rng = np.random.default_rng(0)
    squares = [[row_errors(noisy.forward(text)[0], wanted) ** 2 for text, wanted in zip(texts, logits, strict=True)]
               for _ in range(n)]
    return np.sqrt(np.mean(squares, axis=0))


def text_errors(got: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """[texts, tokens]: engines.row_errors of each text."""
    return np.stack([row_errors(text, wanted) for text, wanted in zip(got, logits, strict=True)])
