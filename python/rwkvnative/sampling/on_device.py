"""Sampler chains that a device can run by itself, and what they tell it.

The device knows `LogitBias`, `OccurrencePenalty`, `RepeatPenalty`, `TopK` (and `Greedy`), `TopP`, `MinP` and `Temperature`, in the order
of `SamplingParams`. It works in float32, so it may draw another token than the host where a running sum is within 1e-6 of a
bound. Every other chain is the host's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from .. import _core
from .candidates import BANNED_LOGIT
from .samplers import Bias, Greedy, LogitBias, MinP, OccurrencePenalty, RepeatPenalty, Sampler, Temperature, TopK, TopP

__all__ = ["DeviceChain"]

# The order in which the device applies them; each at most once. Subclasses may do anything, so only the classes themselves.
_ORDER: Final[dict[type[Sampler], int]] = {
    LogitBias: 0, OccurrencePenalty: 0, RepeatPenalty: 1, TopK: 2, Greedy: 2, TopP: 3, MinP: 4, Temperature: 5,
}  # fmt: skip


_NO_IDS: Final = np.empty(0, np.int32)
_NO_COUNTS: Final = np.empty(0, np.float64)


class DeviceChain:
    """A chain as the device runs it. `bias` does not change; `draw` tells the device what has been used whenever it is read."""

    def __init__(self, samplers: Sequence[Sampler]) -> None:
        self._occurrence: OccurrencePenalty | None = None
        self._repeat: RepeatPenalty | None = None
        self.bias: Bias | None = None
        knobs: dict[str, float] = {}
        for sampler in samplers:
            if isinstance(sampler, LogitBias):
                ids, values = sampler.bias()
                self.bias = ids, values
                knobs["bans"] = bool(np.any(values <= BANNED_LOGIT / 2))
            elif isinstance(sampler, OccurrencePenalty):
                self._occurrence = sampler
                knobs["presence"], knobs["frequency"], knobs["decay"] = sampler.presence, sampler.frequency, sampler.decay
            elif isinstance(sampler, RepeatPenalty):
                self._repeat = sampler
                knobs["repeat"], knobs["repeat_last_n"] = sampler.penalty, sampler.last_n
            elif isinstance(sampler, TopK):
                knobs["top_k"] = sampler.k
            elif isinstance(sampler, TopP):
                knobs["top_p"] = sampler.p
            elif isinstance(sampler, MinP):
                knobs["min_p"] = sampler.p
            elif isinstance(sampler, Temperature):
                knobs["temperature"] = sampler.t
        self._draw = _core.Draw(**knobs)  # type: ignore[arg-type]
        self.has_penalties = self._draw.has_penalties

    @staticmethod
    def of(samplers: Sequence[Sampler]) -> DeviceChain | None:
        """None if the device cannot run them."""
        kinds = [type(sampler) for sampler in samplers]
        if not all(kind in _ORDER for kind in kinds) or len(set(kinds)) != len(kinds):
            return None
        order = [_ORDER[kind] for kind in kinds if _ORDER[kind] > 0]
        if any(a >= b for a, b in zip(order, order[1:], strict=False)):
            return None
        return DeviceChain(samplers)

    @property
    def draw(self) -> _core.Draw:
        """How the next token is drawn, and the tokens that the penalties have seen."""
        if self.has_penalties:
            window = [] if self._repeat is None else self._repeat.window
            place_of = {token: place for place, token in enumerate(window, 1)}
            counted, counts = (_NO_IDS, _NO_COUNTS) if self._occurrence is None else self._occurrence.counted()
            places = [place_of.pop(token, 0) for token in counted.tolist()] + list(place_of.values())
            n, n_windowed = len(counted), len(place_of)  # those that were not generated, or are not counted
            self._draw.set_used(
                np.concatenate([counted, np.fromiter(place_of, np.int32, n_windowed)]),
                np.concatenate([counts, np.zeros(n_windowed)]).astype(np.float32),
                np.array(places, np.int32),
                np.arange(n + n_windowed) < n,
                len(window) + 1,
            )
        return self._draw
