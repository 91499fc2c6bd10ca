"""The best tokens of a distribution, and what is known of the rest.

A `Candidates` lists the most likely tokens of a distribution over the vocabulary. The others, its *tail*, are known by
three facts: how many they are, an upper bound on each logit (`ceiling`), and an interval that holds their total weight
(from the logsumexp over the whole vocabulary). A sampler uses the tail only through these, so it can tell whether its answer
is the one that the whole vocabulary would give. If not, it raises `NeedMoreCandidates` and the caller comes back with a
longer list.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from ..errors import InputError, RwkvError

__all__ = ["BANNED_LOGIT", "Candidates", "NeedMoreCandidates"]

# Added to the logit of a token that may never be drawn. Finite, because shader languages do not promise infinities.
BANNED_LOGIT: Final = -1e30

# How far exp(logsumexp) of the device may be off, relative: rounding of a float32 near 16 (1e-6) and its summation.
LOGSUMEXP_ERROR: Final = 2e-6


class NeedMoreCandidates(Exception):
    """The listed candidates do not decide the outcome. `at_least` is the number that would, if known."""

    def __init__(self, at_least: int | None = None) -> None:
        super().__init__(at_least)
        self.at_least = at_least


class Candidates:
    """Listed tokens by falling logit, and bounds on the unlisted ones. Immutable: samplers make new ones.

    ids: int32 [k].
    logits: float64 [k], falling.
    peak: the logit whose weight is 1: a token of logit l weighs exp(l - peak). All weights below are in this unit.
    tail_count: the number of unlisted tokens that may still be drawn; 0 means that the list is the whole distribution.
    tail_low, tail_high: bounds on the sum of their weights.
    ceiling: no unlisted token has a higher logit.
    """

    __slots__ = ("_weights", "ceiling", "ids", "logits", "peak", "tail_count", "tail_high", "tail_low")

    def __init__(
        self,
        ids: npt.NDArray[np.int32],
        logits: npt.NDArray[np.float64],
        peak: float,
        *,
        tail_count: int = 0,
        tail_low: float = 0.0,
        tail_high: float = 0.0,
        ceiling: float = -math.inf,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self.ids = ids
        self.logits = logits
        self.peak = peak
        self.tail_count = tail_count
        self.tail_low = tail_low
        self.tail_high = tail_high
        self.ceiling = ceiling
        self._weights = weights

    @classmethod
    def from_top(
        cls, ids: npt.NDArray[np.int32], logits: npt.NDArray[np.float32], logsumexp: float, n_vocab: int
    ) -> Candidates:
        """From a device's top-k: int32 [k], float32 [k] by falling logit (ties by rising id), logsumexp over all n_vocab."""
        values = logits.astype(np.float64)
        peak = float(values[0])
        if not (math.isfinite(peak) and math.isfinite(logsumexp)):
            raise not_usable(peak)
        last = float(values[-1])
        if last <= BANNED_LOGIT / 2:  # everything that is not banned is listed
            return cls._without_banned(ids, values, peak)
        tail_count = n_vocab - len(ids)
        if tail_count <= 0:
            return cls(ids, values, peak)
        weights = np.exp(values - peak)
        total = math.exp(logsumexp - peak)
        tail = total - float(weights.sum())
        error = LOGSUMEXP_ERROR * total
        most = tail_count * float(weights[-1])
        return cls(
            ids,
            values,
            peak,
            tail_count=tail_count,
            tail_low=min(max(tail - error, 0.0), most),
            tail_high=min(max(tail + error, 0.0), most),
            ceiling=last,
            weights=weights,
        )

    @classmethod
    def from_logits(cls, logits: npt.NDArray[np.float32], k: int | None = None) -> Candidates:
        """From the whole vocabulary's logits, float32 [V], biases already added: all tokens, or at least the best k."""
        peak = float(logits.max())  # NaN if any is
        n_vocab = len(logits)
        if not math.isfinite(peak):
            raise not_usable(peak)
        if k is None or k >= n_vocab:
            order = np.argsort(-logits, kind="stable").astype(np.int32)
            return cls._without_banned(order, logits[order].astype(np.float64), peak)
        best = np.flatnonzero(logits >= np.partition(logits, n_vocab - k)[n_vocab - k])  # more than k if there are ties
        ids = best[np.argsort(-logits[best], kind="stable")].astype(np.int32)
        total = float(np.exp(logits - logits[ids[0]]).sum(dtype=np.float64))
        return cls.from_top(ids, logits[ids], peak + math.log(total), n_vocab)

    @classmethod
    def _without_banned(
        cls, ids: npt.NDArray[np.int32], values: npt.NDArray[np.float64], peak: float
    ) -> Candidates:
        if float(values[-1]) <= BANNED_LOGIT / 2:
            n_allowed = int(np.count_nonzero(values > BANNED_LOGIT / 2))
            if n_allowed == 0:
                raise InputError("[sampling] logit_bias bans every token of the vocabulary; at least one must be left")
            ids, values = ids[:n_allowed], values[:n_allowed]
        return cls(ids, values, peak)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        tail = f", {self.tail_count} more weigh {self.tail_low:.3g}..{self.tail_high:.3g}" if self.tail_count else ""
        return f"<Candidates of {len(self)} tokens, best {int(self.ids[0])} at {self.logits[0]:.4g}{tail}>"

    @property
    def complete(self) -> bool:
        """True if no token outside the list can be drawn."""
        return self.tail_count == 0

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """float64 [k]: exp(logits - peak)."""
        if self._weights is None:
            self._weights = np.exp(self.logits - self.peak)
        return self._weights

    def first(self, n: int) -> Candidates:
        """The distribution of the first n listed tokens alone."""
        if n >= len(self) and self.tail_count == 0:
            return self
        weights = None if self._weights is None else self._weights[:n]
        return Candidates(self.ids[:n], self.logits[:n], self.peak, weights=weights)

    def subset(self, keep: npt.NDArray[np.intp]) -> Candidates:
        """The distribution of the listed tokens at the given rising positions alone."""
        return Candidates(self.ids[keep], self.logits[keep], self.peak)

    def index_at(self, fraction: float, *, strict: bool) -> int:
        """The position of the first token at which the running sum of weights reaches (strict: exceeds) `fraction` of the
        total. Raises NeedMoreCandidates if the tail leaves it open. 0 <= fraction <= 1."""
        running = np.cumsum(self.weights)
        listed = float(running[-1])
        side: Literal["left", "right"] = "right" if strict else "left"
        index = int(running.searchsorted(fraction * (listed + self.tail_low), side))
        if self.tail_count:
            highest = int(running.searchsorted(fraction * (listed + self.tail_high), side))
            if highest != index or index >= len(running):
                raise NeedMoreCandidates()
        return min(index, len(running) - 1)  # rounding of the last sum


def not_usable(peak: float | None = None) -> RwkvError:
    """What is wrong with logits whose highest is `peak`; None: only the device knows."""
    highest = "" if peak is None else f" (the highest is {peak})"
    return RwkvError(f"[sampling] the model's logits are not all finite{highest}; its weights or the state are damaged")
