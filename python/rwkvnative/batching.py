"""Many prompts at once: what `Model.generate` does with a list of them. The loop itself is in scheduler.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .checks import callback, integer
from .errors import InputError, RwkvError
from .generation import make_run
from .pieces import PieceStream
from .sampling.params import SamplingOptions
from .scheduler import Scheduler

if TYPE_CHECKING:
    from .generation import Generation, Stop
    from .model import Model, Progress, Tokens
    from .sampling import Sampler
    from .state import State

__all__ = ["BatchStream", "PromptOptions", "default_batch_size", "is_batch", "start_batch"]

# Places in a batch by default: past 32 a CPU gains little; a GPU goes on, as far as two states each fit this much memory.
_CPU_PLACES: Final = 32
_GPU_PLACES: Final = 64
_STATE_BYTES: Final = 4 << 30


class PromptOptions(SamplingOptions, total=False):
    """One of several prompts with what is its own: any of these takes the place of `Model.generate`'s argument."""

    prompt: str | bytes | Tokens
    max_tokens: int | None
    stop: Stop
    seed: int | None
    state: State | None
    samplers: Sequence[Sampler] | None


def is_batch(prompt: Any) -> bool:
    """Whether `prompt` is a list of prompts rather than one, which may be a list of token ids."""
    several = (str, bytes, list, tuple, np.ndarray, Mapping)
    return isinstance(prompt, (list, tuple)) and len(prompt) > 0 and isinstance(prompt[0], several)


def default_batch_size(model: Model) -> int:
    """How many sequences decode together if the caller does not say: see the constants above."""
    info = model._open_engine().info
    places = _CPU_PLACES if info["kind"] in ("cpu", "software") else _GPU_PLACES
    room = _STATE_BYTES
    if info["max_device_memory"]:
        room = min(room, (info["max_device_memory"] - info["device_bytes_used"]) // 2)  # the rest is for the steps' own memory
    return max(1, min(places, info["max_batch"], room // (2 * info["state_bytes"])))


class BatchStream(PieceStream[tuple[int, str]]):
    """Iterates over the new text of several prompts as (index, piece) pairs, index being the prompt's place in the list.

    Pieces of one prompt come in order, those of different prompts as they are made; joined by index they are the texts. A
    piece never ends inside a character, and text that may turn out to be a stop string waits until that is decided.
    `result(index)` has a prompt's whole generation as soon as it is finished, `results` all of them at the end. Breaking off
    early is fine: `close()`, or leaving a ``with`` block, ends all with what there is. One thread reads a stream; any may close it.
    """

    def __init__(self, batch: Scheduler) -> None:
        super().__init__(batch)
        self._batch = batch

    def __len__(self) -> int:
        return len(self._batch.runs)

    def read(self) -> list[Generation]:
        """Read the stream to its end and return the generations, in the order of the prompts."""
        self._read_silently()
        return self.results

    def is_finished(self, index: int) -> bool:
        """Whether the prompt of that index has its whole text."""
        return self._batch.finished[self._checked(index)]

    def result(self, index: int) -> Generation:
        """The generation of one prompt. RwkvError while it is still running."""
        if not (self.is_finished(index) or self._done):
            raise RwkvError(f"[generate] prompt {index} is still running: read the stream on or close() it before asking for the result")
        return self._batch.runs[index].result()

    def _checked(self, index: int) -> int:
        return integer("index of a prompt", index, low=0, high=len(self) - 1, where="generate")

    @property
    def results(self) -> list[Generation]:
        """All generations, in the order of the prompts. RwkvError while one is still running."""
        return [self.result(i) for i in range(len(self))]


def start_batch(
    model: Model,
    prompts: Sequence[str | bytes | Tokens | PromptOptions],
    *,
    batch_size: int | None,
    seed: int | None,
    samplers: Sequence[Sampler] | None,
    progress: Progress | None,
    sampling: SamplingOptions,
    **common: Any,
) -> BatchStream:
    """Checks everything and gives the stream, which has not begun to run. Parameters as `Model.generate`; the i-th prompt's
    seed is seed + i."""
    if batch_size is not None:
        integer("batch_size", batch_size, low=1, where="generate")
    if seed is not None:
        integer("seed", seed, low=0, where="generate")
    callback("progress", progress, where="generate")
    if samplers is not None:
        raise InputError('[generate] samplers: each prompt needs its own, for they remember: {"prompt": ..., "samplers": [...]}')
    known = {key for cls in (PromptOptions, SamplingOptions) for key in cls.__annotations__}
    runs = []
    for i, item in enumerate(prompts):
        try:
            own = _own_options(item, known)
            prompt = own.pop("prompt")
            options = {**common, "seed": None if seed is None else seed + i, "samplers": None}
            options.update((key, own.pop(key)) for key in tuple(own) if key in options)
            # A prompt's own samplers take the place of the common parameters, but not beside parameters of its own.
            parameters: Any = own if options["samplers"] is not None else {**sampling, **own}
            runs.append(make_run(model, prompt, sampling=parameters, progress=None, **options))
        except RwkvError as error:
            raise type(error)(f"[generate] prompt {i}: {error}") from None
    seen: dict[int, int] = {}
    for i, run in enumerate(runs):
        for sampler in run.chain.samplers:
            if seen.setdefault(id(sampler), i) != i:
                raise InputError(f"[generate] prompt {i}: samplers: one of them is prompt {seen[id(sampler)]}'s too; each needs its own")
    return BatchStream(Scheduler(model, runs, batch_size or default_batch_size(model), progress))


def _own_options(item: Any, known: set[str]) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        if np.isscalar(item) and not isinstance(item, (str, bytes)):
            raise InputError(f"[prompt] expected text, token ids or a dict in a list of prompts, got {item!r}")
        return {"prompt": item}
    wrong = next((key for key in item if key not in known), None)
    if wrong is not None:
        raise InputError(f"[prompt] unknown option {wrong!r}; expected some of {', '.join(sorted(known))}")
    if "prompt" not in item:
        raise InputError("[prompt] 'prompt' is missing")
    return dict(item)
