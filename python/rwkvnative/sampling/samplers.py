"""The samplers, each a small class. The order of a chain is the order in which they act.

A sampler may shift logits by amounts known before the model runs (`bias`: the device adds them), and may reshape the
candidates afterwards (`apply`). Filters act on the distribution that the samplers before them left, renormalized.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from .. import checks
from .candidates import BANNED_LOGIT, Candidates, NeedMoreCandidates

__all__ = [
    "Bias",
    "Greedy",
    "LogitBias",
    "MinP",
    "Mirostat",
    "OccurrencePenalty",
    "RepeatPenalty",
    "Sampler",
    "Temperature",
    "TopK",
    "TopP",
    "TypicalP",
]

# Distinct ids (int32 [n]) and what is added to their logits (float32 [n]).
Bias = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]

ALL: Final = 1 << 31  # `wants` of a sampler that needs the whole vocabulary


class Sampler:
    """Does nothing. Subclasses override what they need; one object serves one sequence."""

    @property
    def wants(self) -> int:
        """How many candidates it surely needs; the first request asks for at least so many."""
        return 1

    def start(self, prompt: Sequence[int], n_vocab: int) -> None:
        """Called once, before the first token."""

    def bias(self) -> Bias | None:
        """What to add to logits before the next token is chosen; None for nothing."""
        return None

    def apply(self, candidates: Candidates) -> Candidates:
        """The distribution after this sampler. May be called several times for one token, so it must not count."""
        return candidates

    def accept(self, token: int) -> None:
        """Called once with each token that was drawn."""


class LogitBias(Sampler):
    """Adds `biases[id]` to the logit of each token id; -inf bans the token."""

    def __init__(self, biases: Mapping[int, float]) -> None:
        self._items = {
            checks.integer(f"logit_bias key {token!r}", token, low=0, high=checks.MOST): checks.bias(f"logit_bias[{token}]", value)
            for token, value in biases.items()
        }
        self._bias: Bias = (
            np.fromiter(self._items.keys(), np.int32, len(self._items)),
            np.fromiter((max(v, BANNED_LOGIT) for v in self._items.values()), np.float32, len(self._items)),
        )

    def start(self, prompt: Sequence[int], n_vocab: int) -> None:
        for token in self._items:
            checks.integer("logit_bias key", token, low=0, high=n_vocab - 1)

    def bias(self) -> Bias:
        return self._bias


class OccurrencePenalty(Sampler):
    """Presence and frequency penalty with decay, as in the RWKV author's chat scripts.

    A generated token's logit falls by ``presence + frequency * count``. For each new token all counts are first
    multiplied by `decay` (0.996 is usual; 1 gives the OpenAI definition), then its own grows by one. The prompt does not count.
    """

    def __init__(self, presence: float = 0.0, frequency: float = 0.0, decay: float = 1.0) -> None:
        self.presence = checks.number("presence_penalty", presence, low=-1e6, high=1e6)
        self.frequency = checks.number("frequency_penalty", frequency, low=-1e6, high=1e6)
        self.decay = checks.number("penalty_decay", decay, low=0.0, high=1.0)
        self._index: dict[int, int] = {}
        self._ids = np.empty(64, np.int32)
        self._counts = np.empty(64, np.float64)

    def counted(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """The tokens generated so far and their decayed counts, both [n]: views, until the next token."""
        n = len(self._index)
        return self._ids[:n], self._counts[:n]

    def start(self, prompt: Sequence[int], n_vocab: int) -> None:
        self._index.clear()

    def bias(self) -> Bias | None:
        n = len(self._index)
        if n == 0:
            return None
        return self._ids[:n], (self._counts[:n] * -self.frequency - self.presence).astype(np.float32)

    def accept(self, token: int) -> None:
        n = len(self._index)
        if self.decay != 1.0:
            self._counts[:n] *= self.decay
        i = self._index.get(token)
        if i is not None:
            self._counts[i] += 1
            return
        if n == len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.empty_like(self._counts)])
        self._index[token] = n
        self._ids[n] = token
        self._counts[n] = 1


class RepeatPenalty(Sampler):
    """Divides a positive logit of a token seen among the last `last_n` (prompt included) by `penalty` and multiplies a
    negative one (Keskar et al. 2019, CTRL, section 4.1, with the sign rule of llama.cpp and transformers).

    It acts on logits that already carry the additive biases. A penalty above 1 only lowers logits: listed tokens that
    fall below the ceiling of the tail can no longer be ranked against it and join it; unlisted ones only shrink its weight.
    A penalty below 1 could raise unlisted tokens into the list, and so needs every seen token listed.
    """

    def __init__(self, penalty: float, last_n: int = 64) -> None:
        self.penalty = checks.number("repeat_penalty", penalty, low=1e-6, high=1e6)  # logits stay finite
        self.last_n = checks.integer("repeat_last_n", last_n, low=0, high=checks.MOST)
        self._window: deque[int] = deque()
        self._counts = np.zeros(0, np.int32)  # per token id, within the window
        self._n_distinct = 0

    @property
    def window(self) -> list[int]:
        """The last tokens, up to last_n of them."""
        return list(self._window)

    def start(self, prompt: Sequence[int], n_vocab: int) -> None:
        self._window.clear()
        self._counts = np.zeros(n_vocab, np.int32)
        self._n_distinct = 0
        for token in prompt[max(0, len(prompt) - self.last_n) :]:
            self.accept(int(token))

    def accept(self, token: int) -> None:
        if self.last_n == 0:
            return
        if len(self._window) == self.last_n:
            oldest = self._window.popleft()
            self._counts[oldest] -= 1
            self._n_distinct -= int(self._counts[oldest] == 0)
        self._window.append(token)
        self._n_distinct += int(self._counts[token] == 0)
        self._counts[token] += 1

    def apply(self, candidates: Candidates) -> Candidates:
        c = candidates
        seen = self._counts[c.ids] > 0
        n_seen = int(np.count_nonzero(seen))
        if c.tail_count and self.penalty < 1 and n_seen < self._n_distinct:
            raise NeedMoreCandidates()
        if n_seen == 0 and (c.tail_count == 0 or self._n_distinct == 0):
            return c
        changed = c.logits[seen]
        changed = np.where(changed > 0, changed / self.penalty, changed * self.penalty)
        ids, logits = _merge(c.ids[~seen], c.logits[~seen], c.ids[seen], changed)
        if c.tail_count == 0:
            return Candidates(ids, logits, float(logits[0]))
        n_ranked = int(np.count_nonzero(logits > c.ceiling))
        drop = c.peak - float(logits[0])  # the new best token becomes the unit of weight
        if n_ranked == 0 or drop > 600:
            raise NeedMoreCandidates()
        joined = float(np.exp(logits[n_ranked:] - c.peak).sum())
        unseen_share = max(0.0, c.tail_low - (self._n_distinct - n_seen) * math.exp(c.ceiling - c.peak))
        scale = math.exp(drop)
        return Candidates(
            ids[:n_ranked],
            logits[:n_ranked],
            float(logits[0]),
            tail_count=c.tail_count + len(ids) - n_ranked,
            tail_low=(unseen_share + joined) * scale,
            tail_high=(c.tail_high + joined) * scale,
            ceiling=c.ceiling,
        )


def _merge(
    ids: npt.NDArray[np.int32],
    logits: npt.NDArray[np.float64],
    more_ids: npt.NDArray[np.int32],
    more_logits: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """A sorted list and a few more entries as one list, by falling logit and, where that is equal, rising id."""
    order = np.lexsort((more_ids, -more_logits))
    more_ids, more_logits = more_ids[order], more_logits[order]
    negative = -logits
    at = negative.searchsorted(-more_logits, "left")
    after = negative.searchsorted(-more_logits, "right")
    for i in np.flatnonzero(at < after):  # equal logits: behind the lower ids among them
        at[i] += int(ids[at[i] : after[i]].searchsorted(more_ids[i]))
    return np.insert(ids, at, more_ids), np.insert(logits, at, more_logits)


class TopK(Sampler):
    """Keeps the k most likely tokens (Fan et al. 2018)."""

    def __init__(self, k: int) -> None:
        self.k = checks.integer("top_k", k, low=1, high=checks.MOST)

    @property
    def wants(self) -> int:
        return self.k

    def apply(self, candidates: Candidates) -> Candidates:
        if candidates.tail_count and len(candidates) < self.k:
            raise NeedMoreCandidates(self.k)
        return candidates.first(self.k)


class Greedy(TopK):
    """Keeps the most likely token; of equals, the one with the lowest id."""

    def __init__(self) -> None:
        super().__init__(1)


class TopP(Sampler):
    """Keeps the smallest set of most likely tokens whose probability reaches p (nucleus, Holtzman et al. 2020)."""

    def __init__(self, p: float) -> None:
        self.p = checks.number("top_p", p, low=0.0, high=1.0)

    def apply(self, candidates: Candidates) -> Candidates:
        if self.p == 1.0:
            return candidates
        return candidates.first(candidates.index_at(self.p, strict=False) + 1)


class MinP(Sampler):
    """Keeps the tokens whose probability is at least p times that of the most likely one (Nguyen et al. 2024)."""

    def __init__(self, p: float) -> None:
        self.p = checks.number("min_p", p, low=0.0, high=1.0)

    def apply(self, candidates: Candidates) -> Candidates:
        if self.p == 0.0:
            return candidates
        lowest = float(candidates.logits[0]) + math.log(self.p)
        if candidates.tail_count and candidates.ceiling >= lowest:
            raise NeedMoreCandidates()
        return candidates.first(int(np.count_nonzero(candidates.logits >= lowest)))


class TypicalP(Sampler):
    """Locally typical sampling (Meister et al. 2022): by how far -log p is from the entropy, keeps the closest tokens until
    their probability reaches p. The entropy needs every token, so without a filter before it, the whole vocabulary."""

    def __init__(self, p: float) -> None:
        self._p = checks.number("typical_p", p, above=0.0, high=1.0)

    def apply(self, candidates: Candidates) -> Candidates:
        if self._p == 1.0:
            return candidates
        if candidates.tail_count:
            raise NeedMoreCandidates(ALL)
        probabilities = candidates.weights / candidates.weights.sum()
        surprise = -np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
        distance = np.abs(surprise - float(probabilities @ surprise))
        order = np.argsort(distance, kind="stable")
        running = np.cumsum(probabilities[order])
        n = min(int(running.searchsorted(self._p, "left")) + 1, len(order))
        return candidates.subset(np.sort(order[:n]))


class Temperature(Sampler):
    """Divides the logits by t >= 1e-30.

    The weight of the tail after it is bounded from its weight M before: with q = 1/t, n tokens, none heavier than m,
    sum w^q lies between M m^(q-1) and n (M/n)^q (Jensen), the first the larger one if q > 1.
    """

    def __init__(self, t: float) -> None:
        self.t = checks.number("temperature", t, low=1e-30)  # logits divided by it stay finite

    def apply(self, candidates: Candidates) -> Candidates:
        c = candidates
        if self.t == 1.0:
            return c
        logits = c.logits / self.t
        peak = c.peak / self.t
        if c.tail_count == 0:
            return Candidates(c.ids, logits, peak)
        q = 1 / self.t
        top = math.exp(min((q - 1) * (c.ceiling - c.peak), 700.0))
        low, high = c.tail_low * top, c.tail_count * (c.tail_high / c.tail_count) ** q
        if q > 1:
            low, high = c.tail_count * (c.tail_low / c.tail_count) ** q, c.tail_high * top
        return Candidates(
            c.ids,
            logits,
            peak,
            tail_count=c.tail_count,
            tail_low=min(low, high),
            tail_high=high,
            ceiling=c.ceiling / self.t,
        )


class Mirostat(Sampler):
    """Mirostat 2 (Basu et al. 2021): keeps tokens whose surprise, -log2 p, is at most mu, and after each draw moves mu by
    ``-eta * (surprise - tau)``, so that the text's surprise stays near tau bits. mu starts at 2 tau."""

    def __init__(self, tau: float = 5.0, eta: float = 0.1) -> None:
        self._tau = checks.number("mirostat_tau", tau, above=0.0)
        self._eta = checks.number("mirostat_eta", eta, above=0.0)
        self._mu = 2 * self._tau
        self._kept: Candidates | None = None

    @property
    def mu(self) -> float:
        """The present bound on the surprise of a token, in bits."""
        return self._mu

    def start(self, prompt: Sequence[int], n_vocab: int) -> None:
        self._mu = 2 * self._tau
        self._kept = None

    def apply(self, candidates: Candidates) -> Candidates:
        # -log2(w / total) <= mu  <=>  w >= total 2^-mu
        c = candidates
        weights = c.weights
        listed = float(weights.sum())
        share = 2.0**-self._mu if self._mu > -1000 else math.inf
        n = int(np.count_nonzero(weights >= (listed + c.tail_low) * share))
        if c.tail_count:
            n_least = int(np.count_nonzero(weights >= (listed + c.tail_high) * share))
            if n_least != n or n == len(c):
                raise NeedMoreCandidates()
        self._kept = c.first(max(n, 1))
        return self._kept

    def accept(self, token: int) -> None:
        kept = self._kept
        if kept is None:
            return
        position = np.flatnonzero(kept.ids == token)
        if len(position):
            probability = float(kept.weights[position[0]] / kept.weights.sum())
            self._mu -= self._eta * (-math.log2(max(probability, 1e-300)) - self._tau)


def merge_biases(biases: Iterable[Bias | None]) -> Bias | None:
    """One bias with distinct ids whose values are summed."""
    present = [b for b in biases if b is not None and len(b[0])]
    if len(present) < 2:
        return present[0] if present else None
    ids, inverse = np.unique(np.concatenate([b[0] for b in present]), return_inverse=True)
    values = np.zeros(len(ids), np.float32)
    np.add.at(values, inverse, np.concatenate([b[1] for b in present]))
    return ids, values
