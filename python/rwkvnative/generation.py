"""The loop that makes text: read the prompt, then choose token after token until something ends it."""

from __future__ import annotations

import numbers
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from .checks import callback, integer
from .errors import InputError, RwkvError
from .pieces import STREAM_SECONDS, PieceStream
from .sampling import Candidates, Sampler, SamplerChain, SamplingParams
from .sampling.candidates import not_usable
from .sampling.chain import DEVICE_K
from .state import State
from .streaming import TextAssembler

if TYPE_CHECKING:
    from . import _core
    from .model import Model, Progress, Tokens
    from .sampling.params import SamplingOptions
    from .sampling.samplers import Bias

__all__ = ["FinishReason", "Generation", "GenerationStream", "Stop", "Timings"]

FinishReason = Literal["stop", "length", "cancelled"]
Stop = str | int | Sequence[str | int]

# Roughly so many prompt tokens are read at a time: after each read, progress is reported and Ctrl-C heard.
_PREFILL_TOKENS: Final = 512
_NO_IDS: Final = np.empty(0, np.int32)
_NO_VALUES: Final = np.empty(0, np.float32)


@dataclass(frozen=True)
class Timings:
    """Wall-clock seconds, without the time that the consumer of a stream takes between pieces.

    The last prompt token is read in the step that gives the first new token, and counts there.
    """

    prompt_tokens: int
    prompt_seconds: float
    generated_tokens: int
    generated_seconds: float

    @property
    def prompt_tokens_per_second(self) -> float:
        """Speed of reading the prompt, 0 if it was a single token."""
        return (self.prompt_tokens - 1) / self.prompt_seconds if self.prompt_seconds > 0 else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Speed of generating, 0 if nothing was generated."""
        return self.generated_tokens / self.generated_seconds if self.generated_seconds > 0 else 0.0


@dataclass(frozen=True)
class Generation:
    """What came out. ``str(generation)`` is the text.

    text: the new text, without the prompt and without the stop string.
    tokens: the tokens of `raw_text`; the end-of-text or stop token that ended it is not among them.
    finish_reason: "stop" (a stop string or token, or the end of text), "length" (max_tokens), "cancelled" (closed early).
    stop: the stop string or token id that ended it, or None.
    seed: give it again to get the same text; None where no random number was used.
    raw_text: what all the tokens say, with a stop string and what its last token held after it.
    """

    text: str
    tokens: list[int]
    finish_reason: FinishReason
    stop: str | int | None
    seed: int | None
    timings: Timings
    raw_text: str = field(repr=False)
    _run: _Run | None = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without the model, and so without `state`: for results that one process sends to another."""
        return Generation, (*(getattr(self, item.name) for item in fields(self) if item.name != "_run"), None)

    @property
    def state(self) -> State:
        """The state after the prompt and all of `tokens`: generate again with it to go on. Made when first asked for. RwkvError if
        the generation was pickled, or the model is closed."""
        if self._run is None:
            raise RwkvError("[generate] a generation that was pickled has no state: take it before, a State can be pickled itself")
        return self._run.state()


class _Run:
    """One generation. `pieces()` does the work; everything else is its bookkeeping."""

    def __init__(
        self,
        model: Model,
        prompt: npt.NDArray[np.int32],
        chain: SamplerChain,
        assembler: TextAssembler,
        stop_ids: frozenset[int],
        max_tokens: int | None,
        state: State | None,
        progress: Progress | None,
    ) -> None:
        self.model = model
        self.prompt = prompt
        self.chain = chain
        self.assembler = assembler
        self.stop_ids = stop_ids
        self.max_tokens = max_tokens
        self.progress = progress
        self.tokens: list[int] = []
        self.finish_reason: FinishReason = "cancelled"
        self.stop: str | int | None = None
        self.cancelled = False
        self.prompt_seconds = 0.0
        self.generated_seconds = 0.0
        self._engine = model._open_engine()
        self.base_state = model._core_state(state)
        # `_front` has read the first `_n_read` of prompt + tokens; -1: unknown, an interrupted call left it behind, or the
        # state was a batch's and serves another sequence now.
        self._front_state: _core.State | None = None
        self._back_state: _core.State | None = None
        self._n_read = 0
        self.burst_seconds = STREAM_SECONDS
        self.keep_prompt_state = False
        self.prompt_state: State | None = None  # after the prompt and nothing else
        self._lock = threading.Lock()

    @property
    def _front(self) -> _core.State:
        if self._front_state is None:
            self._front_state = self._engine.new_state() if self.base_state is None else self.base_state.copy()
        return self._front_state

    # ---- the loop ----

    def pieces(self) -> Generator[str, None, None]:
        """Yields text as it becomes free (never empty). Finishes with `finish_reason` set."""
        try:
            begin = time.perf_counter()
            self._read_prompt()
            self.prompt_seconds = time.perf_counter() - begin
            if self.max_tokens == 0 and not self.cancelled:
                self.finish_reason = "length"
                return
            steps = self._device_steps() if self._on_device() else self._host_steps()
            while not self.cancelled:
                begin = time.perf_counter()
                more = next(steps, False)
                if self.keep_prompt_state and self._n_read == len(self.prompt):
                    self.prompt_state = State._on_device(self._front.copy(), self.model)
                self.generated_seconds += time.perf_counter() - begin
                if not more:
                    break
                text = self.assembler.take()
                if text:
                    yield text
        finally:
            self.end_texts()
        text = self.assembler.take()
        if text:
            yield text

    def end_texts(self) -> None:
        self.assembler.finish()

    def _read_prompt(self) -> None:
        """All but the last token, whose reading gives the first new one."""
        n = len(self.prompt) - 1
        # Whole chunks of the device: rounding may depend on how a prompt is cut, and the same prompt must give the same text.
        chunk = self._engine.info["prefill_rows"]
        step = chunk * max(1, _PREFILL_TOKENS // chunk)
        for at in range(0, n, step):
            end = min(at + step, n)
            self._n_read = -1
            self._engine.forward(self.prompt[at:end], self._front, self._front, "none")
            self._n_read = end
            if self.progress is not None:
                self.progress(end, n)
            if self.cancelled:
                return

    def _on_device(self) -> bool:
        """Whether the device chooses the tokens, so that it need not wait for the host between them."""
        if self.chain.is_argmax:
            return True
        chain = self.chain.on_device
        return chain is not None and self._engine.can_draw(1, chain.has_penalties)

    def _host_steps(self) -> Iterator[bool]:
        """One step per token; yields True while there may be more."""
        token = int(self.prompt[-1])
        limit = self.max_tokens
        while limit is None or len(self.tokens) < limit:
            token = self._host_step(token)
            if not self.take(token):
                return
            yield True
        self.finish_reason = "length"

    def _host_step(self, token: int) -> int:
        """Reads a token and draws the next."""
        engine, n_vocab = self._engine, self.model.n_vocab
        if self._back_state is None:
            self._back_state = engine.new_state()
        back = self._back_state
        last = np.array([token], np.int32)

        read_logits: npt.NDArray[np.float32] | None = None  # of this step, if the list of the device was too short

        def fetch(k: int, bias: Bias | None) -> Candidates:
            # Reads `last` from the front state into the back one, so it can be asked again for more.
            nonlocal read_logits
            ids, values = bias or (_NO_IDS, _NO_VALUES)
            if k < n_vocab and k <= DEVICE_K[-1]:
                return Candidates.from_top(*engine.candidates(last, self._front, back, k, ids, values), n_vocab)
            if read_logits is None:
                read_logits = engine.forward(last, self._front, back, "last")
                read_logits[ids] += values
            return Candidates.from_logits(read_logits, k)

        token = self.chain.next_token(fetch, n_vocab)
        self._front_state, self._back_state = back, self._front
        self._n_read += 1
        return token

    def _device_steps(self) -> Iterator[bool]:
        """The device feeds its own choices back, several tokens at a time."""
        token = int(self.prompt[-1])
        stop_ids = np.fromiter(sorted(self.stop_ids), np.int32, len(self.stop_ids))
        watch = self._keep_going if self.assembler.has_stops else None
        chain = None if self.chain.is_argmax else self.chain.on_device
        limit = self.max_tokens
        n = 1
        while limit is None or len(self.tokens) < limit:
            if limit is not None:
                n = min(n, limit - len(self.tokens))
            n_read, self._n_read = self._n_read, -1
            begin = time.perf_counter()
            if chain is None:
                new = self._engine.greedy(token, self._front, n, stop_ids, watch)
            else:
                us = self.chain.uniforms(n)
                new = self._engine.draw(token, self._front, np.array(us), chain.draw, chain.bias, stop_ids, watch)
            seconds = time.perf_counter() - begin
            self._n_read = n_read + len(new)  # `token` and all of the new ones but the last
            token = new[-1] if new else token
            if watch is None:
                for t in new:
                    self._keep_going(t)
            if self.assembler.stop_found is not None:
                self._stopped_by_text()
                return
            if new and self._ends_at(token):
                return
            if len(new) < n and chain is None:
                self._n_read = -1  # a device that makes one token after the other has read the last one too
                raise not_usable()
            if chain is not None and len(new) < n:  # there is none to draw: the host knows why
                self.chain.give_back(us[len(new) :])
                token = self._host_step(token)
                if not self.take(token):
                    return
            n = max(1, min(2 * n, int(self.burst_seconds * max(len(new), 1) / max(seconds, 1e-9))))
            yield True
        self.finish_reason = "length"

    def _keep_going(self, token: int) -> bool:
        """Takes a token that the device has chosen; False if it ends the text."""
        self.chain.accept(token)
        if token in self.stop_ids:
            return False
        self.tokens.append(token)
        return not self.assembler.push(token)

    def take(self, token: int) -> bool:
        """Takes the next token; False if it ends the text."""
        if self._ends_at(token):
            return False
        self.tokens.append(token)
        if self.assembler.push(token):
            self._stopped_by_text()
            return False
        return True

    def _ends_at(self, token: int) -> bool:
        if token not in self.stop_ids:
            return False
        self.finish_reason, self.stop = "stop", token
        return True

    def _stopped_by_text(self) -> None:
        self.finish_reason, self.stop = "stop", self.assembler.stop_found

    # ---- results ----

    def result(self) -> Generation:
        return Generation(
            text=self.assembler.text,
            tokens=list(self.tokens),
            finish_reason=self.finish_reason,
            stop=self.stop,
            seed=None if self.chain.is_argmax else self.chain.seed,
            timings=Timings(len(self.prompt), self.prompt_seconds, len(self.tokens), self.generated_seconds),
            raw_text=self.assembler.raw,
            _run=self,
        )

    def state(self) -> State:
        """A state that has read prompt and tokens."""
        everything = np.concatenate([self.prompt, np.asarray(self.tokens, np.int32)])
        engine = self.model._open_engine()
        with self._lock:
            if self._n_read < 0:  # start over
                self._front_state, self._n_read = None, 0
            if self._n_read < len(everything):
                n_read, self._n_read = self._n_read, -1
                engine.forward(everything[n_read:], self._front, self._front, "none")
                self._n_read = len(everything)
            return State._on_device(self._front.copy(), self.model)


class GenerationStream(PieceStream[str]):
    """Iterates over the new text in pieces; afterwards `result` has the whole.

    A piece never ends inside a character, and text that may turn out to be a stop string waits until that is decided.
    Breaking off early is fine: `close()`, or leaving a ``with`` block, ends the generation with what there is. One thread reads a
    stream; any may close it.
    """

    def __init__(self, run: _Run) -> None:
        super().__init__(run)
        self._run = run

    def read(self) -> Generation:
        """Read the stream to its end and return the whole."""
        self._read_silently()
        return self.result

    @property
    def result(self) -> Generation:
        """The whole generation. RwkvError while it is still running."""
        if not self._done:
            raise RwkvError("[generate] the stream is still running: read it to its end or close() it before asking for the result")
        return self._run.result()


def start(model: Model, prompt: str | bytes | Tokens, **options: Any) -> GenerationStream:
    """Checks everything and gives the stream, which has not begun to run. Options as of `make_run`."""
    return GenerationStream(make_run(model, prompt, **options))


def make_run(
    model: Model,
    prompt: str | bytes | Tokens,
    *,
    max_tokens: int | None,
    stop: Stop,
    seed: int | None,
    state: State | None,
    samplers: Sequence[Sampler] | None,
    progress: Progress | None,
    sampling: SamplingOptions,
    strip: bool = False,
    extra_stop_ids: Sequence[int] = (),
) -> _Run:
    """Checks everything; nothing has run yet. Parameters as `Model.generate`."""
    ids = model.encode_prompt(prompt)
    if max_tokens is not None:
        integer("max_tokens", max_tokens, low=0, where="generate")
    if seed is not None:
        integer("seed", seed, low=0, where="generate")
    callback("progress", progress, where="generate")
    strings, stop_ids = parse_stop(stop, model.n_vocab)
    stop_ids |= set(extra_stop_ids)
    if model.tokenizer.eos_id is not None:
        stop_ids.add(model.tokenizer.eos_id)
    if samplers is None:
        samplers = SamplingParams(**sampling).samplers()
    elif sampling:
        raise InputError(f"[sampling] give either samplers or parameters such as {next(iter(sampling))}, not both")
    elif not isinstance(samplers, Sequence) or not all(isinstance(s, Sampler) for s in samplers):
        raise InputError(f"[sampling] samplers: expected a list of rwkvnative.sampling.Sampler objects, got {samplers!r}")
    chain = SamplerChain(samplers, secrets.randbits(63) if seed is None else int(seed))
    chain.start(ids.tolist(), model.n_vocab)
    assembler = TextAssembler(model.tokenizer.stream_decoder(), strings, strip=strip)
    return _Run(model, ids, chain, assembler, frozenset(stop_ids), max_tokens, state, progress)


def parse_stop(stop: Stop | None, n_vocab: int) -> tuple[list[str], set[int]]:
    """The stop strings and stop token ids; InputError for an empty string or an id out of range."""
    items: Sequence[Any]
    if stop is None:
        items = ()
    elif isinstance(stop, (str, numbers.Integral)):
        items = (stop,)
    elif isinstance(stop, Sequence) and not isinstance(stop, (bytes, bytearray, memoryview)):  # whose items are no token ids
        items = stop
    else:
        raise InputError(f"[generate] stop: expected text, a token id, or a list of them, got {type(stop).__name__}")
    strings: list[str] = []
    ids: set[int] = set()
    for item in items:
        if isinstance(item, str):
            if not item:
                raise InputError("[generate] stop: an empty string would end every text at once; expected at least one character")
            strings.append(item)
        else:
            ids.add(integer("stop", item, low=0, high=n_vocab - 1, where="generate"))
    return strings, ids
