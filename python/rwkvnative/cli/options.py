"""Options that several commands share, and what they mean."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .terminal import ProgressBar

if TYPE_CHECKING:
    from ..model import Model

_MODEL, _SAMPLING = "Model", "Sampling"

ModelPath = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="FILE", help="GGUF file; without it the model that comes with the package."),
]
Device = Annotated[str, typer.Option(help="Where to run: auto, cpu, or a name from `rwkvnative devices`.")]
Threads = Annotated[int | None, typer.Option("--threads", "-j", help="CPU threads; without it one per core.")]
Numerics = Annotated[str, typer.Option(help="Activations of quantized weights: auto, f32 or int8.")]
MaxDeviceMemory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="The most device memory to use, such as 4GiB; what does not fit is streamed layer by layer."),
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", "-n", help="Stop after so many tokens.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No speed line on stderr.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same text.")]
StopText = Annotated[list[str] | None, typer.Option("--stop", metavar="TEXT", help="End before this text (\\n for a line end); may be repeated.")]
Temperature = Annotated[float, typer.Option("--temperature", "-t", help="0 always takes the most likely token.")]
TopP = Annotated[float | None, typer.Option(help="Keep the likeliest tokens up to this probability; 0.7 if left out.")]
TopK = Annotated[int, typer.Option(help="Keep the k likeliest tokens; 0: all.")]
MinP = Annotated[float, typer.Option(help="Keep tokens at least this likely, relative to the likeliest.")]
TypicalP = Annotated[float, typer.Option(help="Keep the most typical tokens up to this probability; 1: all.")]
PresencePenalty = Annotated[float, typer.Option(help="Subtracted from the logit of each token that has come up.")]
FrequencyPenalty = Annotated[float, typer.Option(help="Subtracted for each time that it has come up.")]
PenaltyDecay = Annotated[float, typer.Option(help="Counts are multiplied by this at each token.")]
RepeatPenalty = Annotated[float, typer.Option(help="Makes recent tokens less likely if above 1.")]
RepeatLastN = Annotated[int, typer.Option(help="How many tokens are recent.")]
Mirostat = Annotated[bool, typer.Option("--mirostat", help="Mirostat 2 in place of the filters above.")]
MirostatTau = Annotated[float, typer.Option(help="Surprise that Mirostat aims at, in bits.")]
MirostatEta = Annotated[float, typer.Option(help="How fast Mirostat corrects.")]
LogitBias = Annotated[
    list[str] | None, typer.Option("--logit-bias", metavar="ID=VALUE", help="Add to a token's logit; -inf bans it; may be repeated.")
]


def open_model(path: str | None, device: str, threads: int | None, numerics: str, max_device_memory: str | None = None) -> Model:
    """The model, with a progress bar while it loads."""
    from ..model import Model

    with ProgressBar("loading") as progress:
        return Model(path, device, threads, numerics=numerics, max_device_memory=max_device_memory, progress=progress)


def unescape(text: str) -> str:
    r"""``\n``, ``\t`` and ``\\`` as a person types them in a shell."""
    return re.sub(r"\\([nt\\])", lambda m: {"n": "\n", "t": "\t", "\\": "\\"}[m[1]], text)


def parse_logit_bias(items: list[str] | None) -> dict[int, float]:
    """``ID=VALUE`` items as a dict; InputError for one that is not of that form."""
    biases: dict[int, float] = {}
    for item in items or ():
        token, _, value = item.partition("=")
        try:
            biases[int(token)] = float(value)
        except ValueError:
            raise InputError(f"[sampling] --logit-bias: expected ID=VALUE such as 261=-2.5 or 0=-inf, got {item!r}") from None
        if math.isnan(biases[int(token)]):
            raise InputError(f"[sampling] --logit-bias: expected a number for token {int(token)}, got nan")
    return biases


def sampling_options(values: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments for `Model.generate` out of a command's local variables."""
    from ..sampling import SamplingParams

    chosen = {name: values[name] for name in SamplingParams.__dataclass_fields__ if name in values}
    chosen["logit_bias"] = parse_logit_bias(values["logit_bias"]) or None
    SamplingParams(**chosen)  # complains now rather than after the model is loaded
    chosen["seed"] = values["seed"]
    chosen["stop"] = [unescape(text) for text in values["stop"] or ()]
    return chosen
