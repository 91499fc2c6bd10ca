"""Sampling: a short list of small samplers over a short list of candidate tokens.

The device reduces the logits of the whole vocabulary to the best few and the logsumexp over all; a `Sampler` looks at
those `Candidates` and either gives what it would have given for the whole vocabulary or asks for more. `SamplerChain` runs
the list and draws; `SamplingParams` names the usual knobs, checks them and builds the list.

What is drawn is defined here, in float64. A device that can draw does so itself (on_device.py), with the same random numbers
and the same ties, in float32.
"""

from __future__ import annotations

from .candidates import Candidates, NeedMoreCandidates
from .chain import SamplerChain
from .params import SamplingParams
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

__all__ = [
    "Candidates",
    "Greedy",
    "LogitBias",
    "MinP",
    "Mirostat",
    "NeedMoreCandidates",
    "OccurrencePenalty",
    "RepeatPenalty",
    "Sampler",
    "SamplerChain",
    "SamplingParams",
    "Temperature",
    "TopK",
    "TopP",
    "TypicalP",
]
