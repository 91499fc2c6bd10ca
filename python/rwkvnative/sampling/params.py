"""The usual knobs of text generation, checked, and the sampler chain they stand for."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from .. import checks
from ..errors import InputError
from .samplers import (
    Greedy,
    LogitBias,
    MinP,
    Mirostat,
    OccurrencePenalty,
    RepeatPenalty,
    Sampler,
    Temperature,
    TopK,
    TopP,
    TypicalP,
)

__all__ = ["DEFAULT_TOP_P", "SamplingOptions", "SamplingParams"]

DEFAULT_TOP_P = 0.7


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is chosen. The samplers act in this order: logit_bias, presence and frequency penalty, repeat
    penalty, top_k, typical_p, top_p, min_p, temperature (with mirostat: temperature, then mirostat); then one is drawn.

    temperature: from 1e-30 up divides the logits; 0 always takes the most likely token.
    top_k: keep the k most likely tokens; 0 for no limit, 1 like temperature 0.
    top_p, min_p, typical_p: see `TopP`, `MinP`, `TypicalP`; 1, 0, 1 switch them off. top_p None: 0.7 (off with mirostat).
    presence_penalty, frequency_penalty, penalty_decay: see `OccurrencePenalty`.
    repeat_penalty, repeat_last_n: see `RepeatPenalty`; 1 switches it off; 1e-6 to 1e6.
    mirostat: True (or 2, the version) to hold the surprise of the text at mirostat_tau bits, in place of the filters.
    logit_bias: token id -> number added to its logit; -inf bans the token.

    Raises InputError, on construction, for a value out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float | None = None
    min_p: float = 0.0
    typical_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_decay: float = 1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    mirostat: bool | int = False
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    logit_bias: Mapping[int, float] | None = None

    def __post_init__(self) -> None:
        checks.number("temperature", self.temperature, low=0.0)
        checks.integer("top_k", self.top_k, low=0, high=checks.MOST)
        is_version = isinstance(self.mirostat, numbers.Integral) and self.mirostat in (0, 2)
        if not isinstance(self.mirostat, bool) and not is_version:
            raise InputError(f"[sampling] mirostat: expected True, False, or the version 2, got {self.mirostat!r}")
        if self.logit_bias is not None and not isinstance(self.logit_bias, Mapping):
            raise InputError(
                f"[sampling] logit_bias: expected a mapping of token id to number, got {type(self.logit_bias).__name__}"
            )
        self._every_sampler()  # each checks its own parameters
        if self.mirostat:
            for name, off in (("top_k", (0,)), ("top_p", (None, 1.0)), ("min_p", (0.0,)), ("typical_p", (1.0,))):
                if getattr(self, name) not in off:
                    raise InputError(
                        f"[sampling] {name}: mirostat takes the place of this filter, so leave it out; got {getattr(self, name)!r}"
                    )

    def _every_sampler(self) -> dict[str, Sampler]:
        """Each sampler with its parameter, also where that switches it off."""
        return {
            "logit_bias": LogitBias(self.logit_bias or {}),
            "occurrence": OccurrencePenalty(self.presence_penalty, self.frequency_penalty, self.penalty_decay),
            "repeat": RepeatPenalty(self.repeat_penalty, self.repeat_last_n),
            "top_k": TopK(max(self.top_k, 1)),
            "typical_p": TypicalP(self.typical_p),
            "top_p": TopP(DEFAULT_TOP_P if self.top_p is None else self.top_p),
            "min_p": MinP(self.min_p),
            "temperature": Temperature(self.temperature or 1.0),
            "mirostat": Mirostat(self.mirostat_tau, self.mirostat_eta),
        }

    def samplers(self) -> list[Sampler]:
        """A fresh list of the samplers that these parameters switch on, in order."""
        every = self._every_sampler()
        greedy = self.temperature == 0 or self.top_k == 1
        filters = not (greedy or self.mirostat)
        on = {
            "logit_bias": bool(self.logit_bias),
            "occurrence": self.presence_penalty != 0 or self.frequency_penalty != 0,
            "repeat": self.repeat_penalty != 1,
            "top_k": filters and self.top_k > 0,
            "typical_p": filters and self.typical_p < 1,
            "top_p": filters and self.top_p != 1,
            "min_p": filters and self.min_p > 0,
            "temperature": not greedy and self.temperature != 1,
            "mirostat": bool(self.mirostat) and not greedy,
        }
        return [every[name] for name in every if on[name]] + ([Greedy()] if greedy else [])


class SamplingOptions(TypedDict, total=False):
    """The fields of `SamplingParams` as keyword arguments."""

    temperature: float
    top_k: int
    top_p: float | None
    min_p: float
    typical_p: float
    presence_penalty: float
    frequency_penalty: float
    penalty_decay: float
    repeat_penalty: float
    repeat_last_n: int
    mirostat: bool | int
    mirostat_tau: float
    mirostat_eta: float
    logit_bias: Mapping[int, float] | None
