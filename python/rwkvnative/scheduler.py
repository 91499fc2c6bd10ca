"""Who takes part in which step of a batch: sequences share every step of the model, finished ones leave, waiting ones enter at once.

A step is one submit: each sequence that makes text brings one token, and those that still read their prompts fill the rows
that are left, so nobody waits for a prompt to be read. What a sequence is, how its tokens are chosen and what ends it is
`generation._Run`'s and its sampler chain's, here as for a single prompt.

The recurrent state has one size however long the text, so there is no cache to page: a place in the batch costs two states,
one to read and one to write, so that a step can be repeated for a sampler that needs more candidates.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from .errors import DeviceError, RwkvError
from .pieces import STREAM_SECONDS
from .sampling import Candidates
from .sampling.candidates import not_usable
from .sampling.chain import DEVICE_K

if TYPE_CHECKING:
    from . import _core
    from .generation import _Run
    from .model import Model, Progress
    from .sampling.samplers import Bias

__all__ = ["Scheduler"]

# Prompts that are read side by side get at least so many rows each: every step reads and writes the states of all.
_LEAST_CHUNK: Final = 32
# The device feeds itself for so many tokens of each sequence: random numbers for them are prepared, and twice as many as the last
# time were used.
_LEAST_BURST: Final = 8
_MOST_BURST: Final = 64
# It goes on for those that are left when others have ended, if nobody waits for a place and fewer than one in so many have.
_ENDED_SHARE: Final = 8


class _Place:
    """A sequence on the device. `state` has read all but `unread` of its prompt and tokens; None: nothing yet. Each step reads
    it and writes `next_state`, which then takes its place; at first it is the caller's, and `spare_state` comes in for it."""

    __slots__ = ("index", "n_read", "next_state", "run", "spare_state", "state", "unread")

    def __init__(self, index: int, run: _Run, next_state: _core.State, spare_state: _core.State) -> None:
        self.index = index
        self.run = run
        self.state: _core.State | None = run.base_state
        self.next_state = next_state
        self.spare_state: _core.State | None = spare_state
        self.unread: npt.NDArray[np.int32] = run.prompt
        self.n_read = 0

    def step(self) -> None:
        """`next_state` has been written."""
        old = self.state if self.spare_state is None else self.spare_state
        assert old is not None, "past the first step the state is our own"
        self.state, self.next_state, self.spare_state = self.next_state, old, None

    def own_states(self) -> list[_core.State]:
        """The two states that the next sequence may have."""
        return [self.next_state, self.state if self.spare_state is None else self.spare_state]  # type: ignore[list-item]

    @property
    def reading(self) -> bool:
        """Still within its prompt, which more than one token is left of."""
        return len(self.unread) > 1


class Scheduler:
    """Runs `runs`, as many at a time as there are `places`: see the head of this file."""

    def __init__(self, model: Model, runs: Sequence[_Run], places: int, progress: Progress | None) -> None:
        self.runs = runs
        self.finished = [False] * len(runs)
        self.cancelled = False
        self.burst_seconds = STREAM_SECONDS
        self._engine = model._open_engine()
        self._n_vocab = model.n_vocab
        info = self._engine.info
        self._rows, self._most_greedy = info["prefill_rows"], info["max_batch"]
        self._places = places
        self._progress = progress
        self._waiting = deque(enumerate(runs))
        self._active: list[_Place] = []
        self._spare_states: list[_core.State] = []
        self._burst_tokens = _LEAST_BURST
        self._device_draws: dict[tuple[int, bool], bool] = {}  # by the sequences of a compiled step, and penalties
        self._n_prompt, self._n_prompt_read = sum(len(run.prompt) for run in runs), 0

    def pieces(self) -> Generator[tuple[int, str], None, None]:
        """Yields (index, text) as text becomes free (never empty)."""
        try:
            while (self._waiting or self._active) and not self.cancelled:
                yield from self._enter()
                if self._active:
                    yield from self._burst() if self._all_on_device() else self._step()
        finally:
            self.end_texts()

    def end_texts(self) -> None:
        for i, run in enumerate(self.runs):
            if not self.finished[i]:
                run.end_texts()

    # ---- who takes part ----

    def _enter(self) -> Iterator[tuple[int, str]]:
        while self._waiting and len(self._active) < self._places:
            try:
                while len(self._spare_states) < 2:
                    self._spare_states.append(self._engine.new_state())
            except DeviceError:  # no room: then with those that are in, if there are any
                if not self._active:
                    raise
                self._places = len(self._active)
                return
            place = _Place(*self._waiting.popleft(), self._spare_states.pop(), self._spare_states.pop())
            self._active.append(place)
            if place.run.max_tokens == 0:
                yield from self._leave(place, "length")

    def _leave(self, place: _Place, reason: str | None) -> Iterator[tuple[int, str]]:
        """Ends a sequence (reason None: the run knows why) and frees its place."""
        run = place.run
        if reason == "length":
            run.finish_reason = "length"
        run.end_texts()
        self.finished[place.index] = True
        self._active.remove(place)
        self._spare_states += place.own_states()
        text = run.assembler.take()
        if text:
            yield place.index, text

    def _take(self, place: _Place, token: int) -> bool:
        """Gives a sequence its next token; True if it goes on."""
        run = place.run
        if not run.take(token):
            return False
        if run.max_tokens is not None and len(run.tokens) >= run.max_tokens:
            run.finish_reason = "length"
            return False
        return True

    def _shares(self) -> list[tuple[_Place, int]]:
        """How many tokens each sequence brings: all of its unread ones, which makes the next, or a part of its prompt."""
        readers = sum(place.reading for place in self._active)
        left = max(self._rows - (len(self._active) - readers), self._rows // 4)
        share = max(_LEAST_CHUNK, left // max(1, readers))
        shares: list[tuple[_Place, int]] = []
        for place in self._active:
            n = min(len(place.unread), share, left) if place.reading else 1
            left -= n if place.reading else 0
            if n:
                shares.append((place, n))
        for i, (place, n) in enumerate(shares):  # what short prompts left over
            if place.reading:
                more = min(len(place.unread) - n, left)
                shares[i] = place, n + more
                left -= more
        return shares

    # ---- one step ----

    def _step(self) -> Iterator[tuple[int, str]]:
        begin = time.perf_counter()
        shares = self._shares()
        silent = [(place, n) for place, n in shares if n < len(place.unread)]
        choosing = [(place, n) for place, n in shares if n == len(place.unread)]
        tokens: list[tuple[_Place, int]] = []
        if choosing and self._can_draw([place for place, _ in choosing], len(shares)):
            drawn = self._draw(choosing, silent)
            if drawn is not None:
                tokens, choosing, silent = *drawn, []
        tokens += self._choose(choosing, silent)

        read = 0
        for place, n in shares:
            if place.n_read < len(place.run.prompt):
                read += n
            place.n_read += n
            place.unread = place.unread[n:]
            place.step()
        going = {id(place): (place, self._take(place, token)) for place, token in tokens}
        for place, token in tokens:
            place.unread = np.array([token], np.int32)
        self._account(shares, time.perf_counter() - begin)
        if read:
            self._n_prompt_read += read
            if self._progress is not None:
                self._progress(self._n_prompt_read, self._n_prompt)
        for place, goes_on in going.values():
            yield from self._show(place, goes_on)

    def _choose(
        self, choosing: Sequence[tuple[_Place, int]], silent: Sequence[tuple[_Place, int]]
    ) -> list[tuple[_Place, int]]:
        """The host draws."""
        listed: list[tuple[_Place, int]] = []
        by_logits: list[tuple[_Place, int]] = []
        for place, n in choosing:
            k, _ = place.run.chain.request(self._n_vocab)
            (listed if k < self._n_vocab and k <= DEVICE_K[-1] else by_logits).append((place, n))
        tokens: list[tuple[_Place, int]] = []
        undecided: list[tuple[_Place, int]] = []
        if listed:
            tokens, undecided = self._choose_listed(listed, silent)
        elif silent and not by_logits:
            self._engine.forward_batch(*self._submit(silent), "none")
        if by_logits or undecided:
            with_them = [] if listed else silent
            tokens += self._choose_by_logits(by_logits + undecided, with_them)
        return tokens

    def _can_draw(self, places: Sequence[_Place], n_sequences: int) -> bool:
        """Whether the device can draw for all of these, in a step of so many sequences."""
        chains = [place.run.chain.on_device for place in places]
        if n_sequences > self._most_greedy or any(chain is None for chain in chains):
            return False
        penalties = any(chain.has_penalties for chain in chains if chain is not None)
        size = (self._engine.rounded_up(n_sequences), penalties)
        if size not in self._device_draws:  # it may compile, so once
            self._device_draws[size] = self._engine.can_draw(n_sequences, penalties)
        return self._device_draws[size]

    def _draw(
        self, choosing: Sequence[tuple[_Place, int]], silent: Sequence[tuple[_Place, int]]
    ) -> tuple[list[tuple[_Place, int]], list[tuple[_Place, int]]] | None:
        """The device draws: the tokens, and those sequences that it found none for; None if it has no room to."""
        chains = [place.run.chain for place, _ in choosing]
        us = [chain.uniforms(1) for chain in chains]
        draws, biases = self._draws_of([place for place, _ in choosing])
        rest = [None] * len(silent)
        try:
            found: list[int] = self._engine.draw_batch(
                *self._submit([*choosing, *silent]), [*draws, *rest], np.array([u for (u,) in us] + [0.0] * len(rest)), [*biases, *rest]
            ).tolist()[: len(chains)]
        except DeviceError:  # if it is more than that, the host's step will say so
            self._device_draws = dict.fromkeys(self._device_draws, False)
            for chain, u in zip(chains, us, strict=True):
                chain.give_back(u)
            return None
        tokens, undecided = [], []
        for (place, n), chain, u, token in zip(choosing, chains, us, found, strict=True):
            if token < 0:
                chain.give_back(u)
                undecided.append((place, n))
            else:
                chain.accept(token)
                tokens.append((place, token))
        return tokens, undecided

    @staticmethod
    def _draws_of(places: Sequence[_Place]) -> tuple[list[_core.Draw], list[Bias | None]]:
        chains = [place.run.chain.on_device for place in places]
        return [chain.draw for chain in chains if chain is not None], [chain.bias for chain in chains if chain is not None]

    def _submit(
        self, shares: Sequence[tuple[_Place, int]]
    ) -> tuple[list[npt.NDArray[np.int32]], list[_core.State | None], list[_core.State]]:
        """Tokens, states to read and states to write."""
        places = [place for place, _ in shares]
        return [place.unread[:n] for place, n in shares], [p.state for p in places], [p.next_state for p in places]

    def _choose_listed(
        self, choosing: Sequence[tuple[_Place, int]], silent: Sequence[tuple[_Place, int]]
    ) -> tuple[list[tuple[_Place, int]], list[tuple[_Place, int]]]:
        """From lists that the device sorts: the tokens, and those sequences whose list was too short."""
        requests = [place.run.chain.request(self._n_vocab) for place, _ in choosing]
        biases = [bias for _, bias in requests] + [None] * len(silent)
        k = max(k for k, _ in requests)  # a longer list than asked for gives the same token
        ids, logits, sums = self._engine.candidates_batch(*self._submit([*choosing, *silent]), k, biases)
        tokens, undecided = [], []
        for i, (place, n) in enumerate(choosing):
            token = self._offer(place, Candidates.from_top(ids[i], logits[i], float(sums[i]), self._n_vocab))
            if token is None:
                undecided.append((place, n))
            else:
                tokens.append((place, token))
        return tokens, undecided

    def _choose_by_logits(
        self, choosing: Sequence[tuple[_Place, int]], silent: Sequence[tuple[_Place, int]]
    ) -> list[tuple[_Place, int]]:
        """From all logits. Repeats the step of a sequence whose list was too short: its state was not written over."""
        logits = self._engine.forward_batch(*self._submit([*choosing, *silent]))
        tokens = []
        for (place, _), row in zip(choosing, logits, strict=False):
            k, bias = place.run.chain.request(self._n_vocab)
            if bias is not None:
                row[bias[0]] += bias[1]
            token = self._offer(place, Candidates.from_logits(row, k))
            while token is None:
                k, _ = place.run.chain.request(self._n_vocab)
                token = self._offer(place, Candidates.from_logits(row, k))
            tokens.append((place, token))
        return tokens

    def _offer(self, place: _Place, candidates: Candidates) -> int | None:
        try:
            return place.run.chain.offer(candidates, self._n_vocab)
        except RwkvError as error:
            error.add_note(f"while choosing a token of prompt {place.index}")
            raise

    # ---- many tokens that the device chooses ----

    def _all_on_device(self) -> bool:
        if len(self._active) > self._most_greedy or any(place.spare_state is not None or place.reading for place in self._active):
            return False
        return self._all_greedy() or self._can_draw(self._active, len(self._active))

    def _all_greedy(self) -> bool:
        return all(place.run.chain.is_argmax for place in self._active)

    def _burst(self) -> Iterator[tuple[int, str]]:
        """Many steps in one call; a step's tokens are looked at while the device makes the next ones."""
        begin = time.perf_counter()
        active = list(self._active)
        going = [True] * len(active)

        def on_tokens(tokens: list[int]) -> bool:
            for i, (place, token) in enumerate(zip(active, tokens, strict=True)):
                if going[i]:  # what the others make past their ends is thrown away
                    going[i] = self._accept(place, token)
            ended = len(going) - sum(going)
            enough = ended > 0 if self._waiting else _ENDED_SHARE * ended >= len(going)
            return not (enough or self.cancelled or time.perf_counter() - begin >= self.burst_seconds)

        left = [_MOST_BURST if run.max_tokens is None else run.max_tokens - len(run.tokens) for run in (p.run for p in active)]
        n = min(max(left), self._burst_tokens)
        states = [place.state for place in active if place.state is not None]
        if self._all_greedy():
            tokens = self._engine.greedy_batch(np.concatenate([place.unread for place in active]), states, n, on_tokens)
        else:
            us = [place.run.chain.uniforms(n) for place in active]
            draws, biases = self._draws_of(active)
            tokens = self._engine.draw_on([place.unread for place in active], states, draws, np.array(us).T.copy(), biases, on_tokens)
            for place, numbers in zip(active, us, strict=True):
                place.run.chain.give_back(numbers[len(tokens) :])
        self._burst_tokens = min(max(_LEAST_BURST, 2 * len(tokens)), _MOST_BURST)
        for place, token in zip(active, tokens[-1:].T, strict=True):
            place.n_read += len(tokens)
            place.unread = token
        self._account([(place, 1) for place in active], time.perf_counter() - begin)
        for place, goes_on in zip(active, going, strict=True):
            yield from self._show(place, goes_on)

    def _accept(self, place: _Place, token: int) -> bool:
        if token < 0:
            error = not_usable()
            error.add_note(f"while choosing a token of prompt {place.index}")
            raise error
        place.run.chain.accept(token)
        return self._take(place, token)

    def _show(self, place: _Place, goes_on: bool) -> Iterator[tuple[int, str]]:
        text = place.run.assembler.take()
        if text:
            yield place.index, text
        if not goes_on:
            yield from self._leave(place, None)

    @staticmethod
    def _account(shares: Sequence[tuple[_Place, int]], seconds: float) -> None:
        for place, n in shares:
            if n > 1:
                place.run.prompt_seconds += seconds
            else:
                place.run.generated_seconds += seconds
