"""How well a model predicts a text: held-out loss, and how far its predictions are from another's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import InputError

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["SEPARATOR", "Quality", "log_probabilities", "quality"]

SEPARATOR = "\n<s>\n"  # a line `<s>` separates documents
_CHUNK = 128  # tokens whose logits are held at once: 33 MB each for 65536 tokens of vocabulary


@dataclass(frozen=True)
class Quality:
    """loss: mean negative log-likelihood of a token, in nats. kl_divergence: mean Kullback-Leibler divergence of the next-token
    distribution from the reference's, in nats, or None without a reference. n_tokens were scored."""

    loss: float
    kl_divergence: float | None
    n_tokens: int


def log_probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Log-softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    normed: npt.NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normed


def quality(model: Model, text: str, reference: Model | None = None) -> Quality:
    """Score `text`: every token but the first of each document, which is read from a fresh state and ends with the end-of-text
    token, where the vocabulary has one. A line ``<s>`` separates documents. `reference`, usually the F32 model, must have the same vocabulary.

    InputError for a text without a token to score, or another vocabulary.
    """
    if reference is not None and reference.n_vocab != model.n_vocab:
        raise InputError(f"[quality] expected a reference with {model.n_vocab} tokens, got one with {reference.n_vocab}")
    loss = divergence = 0.0
    scored = 0
    for document in text.split(SEPARATOR):
        tokens = model.tokenizer.encode(document)
        if model.tokenizer.eos_id is not None:
            tokens.append(model.tokenizer.eos_id)
        if len(tokens) < 2:
            continue
        loss_here, divergence_here = _score(model, reference, tokens)
        loss += loss_here
        divergence += divergence_here
        scored += len(tokens) - 1
    if scored == 0:
        raise InputError("[quality] the text is empty; expected at least one token to score")
    return Quality(loss / scored, divergence / scored if reference is not None else None, scored)


def _score(model: Model, reference: Model | None, tokens: Sequence[int]) -> tuple[float, float]:
    """Sums over a document: negative log-likelihood, divergence from the reference."""
    loss = divergence = 0.0
    state = reference_state = None
    for begin in range(0, len(tokens) - 1, _CHUNK):
        chunk = list(tokens[begin : min(begin + _CHUNK, len(tokens) - 1)])
        following = np.asarray(tokens[begin + 1 : begin + 1 + len(chunk)])
        logits, state = model.forward(chunk, state, all_logits=True)
        q = log_probabilities(np.atleast_2d(logits))
        loss -= float(q[np.arange(len(chunk)), following].sum(dtype=np.float64))
        if reference is not None:
            logits, reference_state = reference.forward(chunk, reference_state, all_logits=True)
            p = log_probabilities(np.atleast_2d(logits))
            divergence += float((np.exp(p) * (p - q)).sum(dtype=np.float64))
    return loss, divergence
