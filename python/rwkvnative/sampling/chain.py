"""Runs a list of samplers over candidates and draws a token."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .candidates import Candidates, NeedMoreCandidates
from .on_device import DeviceChain
from .samplers import Bias, Greedy, Sampler, merge_biases

__all__ = ["DEVICE_K", "HOST_K", "SamplerChain"]

# Lengths of candidate lists that a device reduces the logits to. Few, because it compiles a program for each.
DEVICE_K = (128, 1024)
# Where they do not suffice, all logits are read, and this many of them sorted, before all are.
HOST_K = 8192

# A longer list than usual stays the first request for this many tokens after a shorter one failed: each failure costs a
# rerun of the token through the model.
_STICKY_TOKENS = 32


class SamplerChain:
    """Samplers in order, and the random numbers of one sequence. Biases act before everything else, wherever they stand.

    Each token uses one uniform number u of numpy's PCG64(seed) and is the first of the remaining candidates, by falling
    logit, whose running probability exceeds u. So the seed and the distribution alone decide the text, not how many
    candidates happened to be read.
    """

    def __init__(self, samplers: Sequence[Sampler], seed: int) -> None:
        self.samplers = tuple(samplers)
        self.seed = seed
        self._random = np.random.Generator(np.random.PCG64(seed)).random
        self._wanted = max((s.wants for s in self.samplers), default=1)
        self._sticky_k = 0
        self._sticky_left = 0
        self._pending: _Draw | None = None
        self._next_us: deque[float] = deque()  # given back
        self.on_device = DeviceChain.of(self.samplers)
        self._with_bias = [s for s in self.samplers if _overrides(s, "bias")]
        self._with_apply = [s for s in self.samplers if _overrides(s, "apply")]
        self._with_accept = [s for s in self.samplers if _overrides(s, "accept")]

    @property
    def is_argmax(self) -> bool:
        """True if every token is the plain argmax of the model's logits, whatever came before."""
        return len(self.samplers) == 1 and isinstance(self.samplers[0], Greedy)

    def start(self, prompt: Sequence[int], n_vocab: int) -> None:
        """Tells the samplers the prompt; called once, before the first token."""
        for sampler in self.samplers:
            sampler.start(prompt, n_vocab)

    def next_token(self, fetch: Callable[[int, Bias | None], Candidates], n_vocab: int) -> int:
        """Draws a token. fetch(k, bias) gives the candidates of the next token, the best k or all n_vocab of them; it is
        called again with a larger k for the same token if the first list does not decide the draw."""
        while True:
            k, bias = self.request(n_vocab)
            token = self.offer(fetch(k, bias), n_vocab)
            if token is not None:
                return token

    def request(self, n_vocab: int) -> tuple[int, Bias | None]:
        """What the next draw needs: candidates, the best k or more of them, and the biases that they must contain."""
        if self._pending is None:
            bias = merge_biases([s.bias() for s in self._with_bias]) if self._with_bias else None
            k = _list_length(max(self._wanted, self._sticky_k), n_vocab)
            self._pending = _Draw(bias, self.uniforms(1)[0], k)
        return self._pending.k, self._pending.bias

    def offer(self, candidates: Candidates, n_vocab: int) -> int | None:
        """Takes what `request` asked for; the token, or None if they leave it open: then `request` asks for more."""
        draw = self._pending
        assert draw is not None, "request() comes first"
        try:
            for sampler in self._with_apply:
                candidates = sampler.apply(candidates)
            token = self._draw(candidates, draw.u)
        except NeedMoreCandidates as need:
            if draw.k >= n_vocab:
                raise AssertionError("a sampler asked for more than the whole vocabulary") from need
            # This token will read all logits at once; the next ones try the next longer list first.
            self._sticky_k, self._sticky_left = need.at_least or min(draw.k + 1, HOST_K), _STICKY_TOKENS + 1
            draw.k = _list_length(max(draw.k + 1, DEVICE_K[-1] + 1, need.at_least or 0), n_vocab)
            return None
        self._pending = None
        self.accept(token)
        if self._sticky_left:
            self._sticky_left -= 1
            if self._sticky_left == 0:
                self._sticky_k = 0
        return token

    def accept(self, token: int) -> None:
        """Tells the samplers a token that was drawn elsewhere."""
        for sampler in self._with_accept:
            sampler.accept(token)

    def uniforms(self, n: int) -> list[float]:
        """The next n of the sequence's uniform numbers."""
        given_back = [self._next_us.popleft() for _ in range(min(n, len(self._next_us)))]
        new: list[float] = self._random(n - len(given_back)).tolist()
        return given_back + new

    def give_back(self, uniforms: Sequence[float]) -> None:
        """Takes back the last ones, which no token was drawn with."""
        self._next_us.extendleft(reversed(uniforms))

    @staticmethod
    def _draw(candidates: Candidates, u: float) -> int:
        if len(candidates) == 1 and candidates.complete:
            return int(candidates.ids[0])
        return int(candidates.ids[candidates.index_at(u, strict=True)])


@dataclass
class _Draw:
    """A token that is being chosen: the biases, the random number, and how many candidates it takes."""

    bias: Bias | None
    u: float
    k: int


def _list_length(at_least: int, n_vocab: int) -> int:
    for k in (*DEVICE_K, HOST_K):
        if at_least <= k < n_vocab:
            return k
    return n_vocab


def _overrides(sampler: Sampler, method: str) -> bool:
    return getattr(type(sampler), method) is not getattr(Sampler, method)
