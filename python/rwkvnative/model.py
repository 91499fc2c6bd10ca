"""A model on a device: logits, text, embeddings."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, overload

import numpy as np
import numpy.typing as npt

from . import _core
from .checks import callback, integer
from .errors import FileError, InputError, RwkvError
from .files import check_path, printable
from .gguf_file import GgufFile
from .model_config import rwkv_config
from .sizes import max_device_memory as parse_max_device_memory
from .state import State, StateShape
from .tokenizer import Tokenizer, tokenizer_from_gguf

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .batching import BatchStream, PromptOptions
    from .chat import ChatOptions, ChatSession, Message
    from .generation import Generation, GenerationStream, Stop
    from .sampling import Sampler
    from .sampling.params import SamplingOptions

__all__ = ["Model", "Tokens", "devices", "embedded_model_path"]

Tokens = int | Sequence[int] | npt.NDArray[np.integer[Any]]
Progress = Callable[[int, int], object]

_NUMERICS: Final = ("auto", "f32", "int8")
# Of `Model.info`: the budget (0: none), what the device holds now and held at most, in bytes; layers, the head as one, and
# those that stay on the device; bytes that go there for each token; bytes of weights kept packed in host memory.
_MEMORY: Final = ("max_device_memory", "device_bytes_used", "device_bytes_peak", "layers", "resident_layers", "streamed_bytes", "host_bytes")
_TEXT: Final = (str, bytes, bytearray, memoryview)
_SAMPLED_BYTES = 64  # of each end of a tensor, for the fingerprint


def embedded_model_path() -> Path:
    """The model that comes with the package, which `Model()` opens. FileError if this installation lacks it."""
    folder = Path(__file__).parent / "data"
    found = sorted(folder.glob("*.gguf"))
    if not found:
        raise FileError(f"[model] the embedded model is missing: expected one *.gguf in {folder}; reinstall rwkvnative")
    return found[0]


def devices() -> list[_core.DeviceInfo]:
    """The devices that ``Model(device=...)`` takes, best first, as dicts: device, name, kind, backend, memory_bytes, features."""
    return _core.devices()


class Model:
    """An RWKV model from a GGUF file, ready to run.

    path: the file; None opens the small English story model that comes with the package.
    device: "auto" (the best there is), "cpu", or a name that `devices()` lists.
    n_threads: threads on the CPU; None means one per core.
    numerics: how activations meet quantized weights: "f32", "int8" (rounded to 8 bits per 32 values: faster), or "auto",
        the device's choice.
    max_device_memory: the most memory on the device for weights, activations and states together, in bytes or as text such as
        "4GiB"; None takes RWKVNATIVE_MAX_DEVICE_MEMORY, or else what the device has. What does not fit passes through the
        device layer by layer for each token (and each chunk of a prompt), with the same results; `info` says how much.
        On the CPU: the most of the file to keep in memory.
    progress: called as ``progress(done_bytes, total_bytes)`` while the weights are prepared.
    tune: find the fastest kernels (on a GPU) and the best chunk length of prompts for this model first, which takes a minute or
        so, unless that was done before on this device; `rwkvnative tune` does the same. Later models of the same shape use
        what was found without being asked; where layers stream, the memory limit decides the chunk length.

    A model may be used by several threads and for any number of sequences; each `State` holds one. Long work releases the GIL.
    A callback (`progress`, a sampler) cannot run the model that calls it, and a child of fork() loads its own.

    Raises FileError for a file that cannot be used, DeviceError for a device, InputError for another argument.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        device: str = "auto",
        n_threads: int | None = None,
        *,
        numerics: str = "auto",
        max_device_memory: int | str | None = None,
        progress: Progress | None = None,
        tune: bool = False,
    ) -> None:
        self._engine: _core.Engine | None = None
        self._lock = threading.Lock()
        self._fingerprint: str | None = None
        file = str(embedded_model_path()) if path is None else check_path(path, "[model] path")
        if not isinstance(device, str) or not device or not device.isprintable():
            raise InputError(f"[model] device: expected a device name such as 'auto' or 'cpu', got {device!r}")
        if n_threads is not None:
            n_threads = integer("n_threads", n_threads, low=1, high=1024, where="model")
        callback("progress", progress, where="model")
        if numerics not in _NUMERICS:
            raise InputError(f"[model] numerics: expected one of {', '.join(_NUMERICS)}, got {numerics!r}")
        budget = parse_max_device_memory(max_device_memory)

        self.path = Path(file)
        self._gguf = GgufFile(self.path)
        try:
            self.arch, self.config = rwkv_config(self._gguf)
            self.tokenizer: Tokenizer = tokenizer_from_gguf(self._gguf)
            self._gguf.check_tensor_types(t["ggml_type"] for t in _core.dtypes())
            tensors = [(t.name, t.ggml_type, t.shape_ne, t.offset, t.n_bytes) for t in self._gguf.tensors.values()]
            self._engine = _core.Engine(
                self.arch, self.config, tensors, self._gguf.data, device, n_threads or 0, numerics, progress,
                source=printable(file), max_device_memory=budget, file=os.fsencode(self.path),
            )
            self._use_tuning(tensors, numerics, tune)
        except BaseException:
            self._gguf.close()
            raise
        info = self._engine.info
        self.n_vocab, self.n_layer, self.n_embd = info["n_vocab"], info["n_layer"], info["n_embd"]
        self.n_head, self.head_size = info["n_head"], info["head_size"]
        self.device, self.device_name, self.n_threads = info["device"], info["device_name"], info["n_threads"]

    def _use_tuning(self, tensors: list[tuple[str, int, tuple[int, ...], int, int]], numerics: str, tune: bool) -> None:
        """Kernel constants and a chunk length that were found for this model's shapes on this device, now or earlier."""
        from .bench.tuning_cache import TuningWarning, apply_cached, can_tune, identity, load, store

        engine = self._open_engine()
        if not can_tune(engine):
            return
        key = identity(engine, self.config, tensors, numerics)
        if tune and load(key) is None:
            from .bench.tuner import tune as run

            found = run(engine)
            try:
                store(key, found.text, found.measured())
            except FileError as error:
                warnings.warn(f"this model is tuned, but later ones will not be: {error}", TuningWarning, stacklevel=3)
        else:
            apply_cached(engine, key)

    # ---- facts ----

    @property
    def name(self) -> str:
        """The model's own name, or that of its file."""
        name = self.metadata.get("general.name")
        return name if isinstance(name, str) and name else self.path.name

    @property
    def metadata(self) -> dict[str, Any]:
        """The keys of the GGUF file (do not change them)."""
        return self._gguf.metadata

    @property
    def info(self) -> dict[str, Any]:
        """What the model is and where it runs, in plain numbers and strings, ready for JSON."""
        counts: dict[str, int] = {}
        n_parameters = 0
        for tensor in self._gguf.tensors.values():
            counts[tensor.type_name] = counts.get(tensor.type_name, 0) + 1
            n_parameters += int(np.prod(tensor.shape_ne, dtype=np.int64))
        engine = self._open_engine().info
        return {
            "name": self.name,
            "path": str(self.path),
            "architecture": self.arch,
            "n_parameters": n_parameters,
            "tensor_types": counts,
            "tokenizer": self.metadata.get("tokenizer.ggml.model"),
            **self.config,
            "n_head": self.n_head,
            "device": self.device,
            "device_name": self.device_name,
            "backend": engine["backend"],
            "n_threads": self.n_threads,
            "weight_bytes": engine["weight_bytes"],
            "device_bytes": engine["device_bytes"],
            "scratch_bytes": engine["scratch_bytes"],
            "state_bytes": engine["state_bytes"],
            "prefill_rows": engine["prefill_rows"],
            **{name: engine[name] for name in _MEMORY},
        }

    @property
    def state_shape(self) -> StateShape:
        """Sizes of this model's states."""
        return StateShape(self.n_layer, self.n_embd, self.n_head, self.head_size)

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 over config, tensor names, types and shapes, and a sample of each tensor's bytes: a saved state says with
        it which model it belongs to. Another quantization of the same model is another model. FileError if the file has changed
        before it was first asked for."""
        with self._lock:
            if self._fingerprint is None:
                engine = self._open_engine()
                digest = hashlib.sha256(f"{self.arch} {sorted(self.config.items())}".encode())
                for tensor in self._gguf.tensors.values():
                    digest.update(f"\n{tensor.name} {tensor.ggml_type} {tensor.shape_ne}".encode())
                    data = self._gguf.data[tensor.offset : tensor.offset + tensor.n_bytes]
                    digest.update(data[:_SAMPLED_BYTES])
                    digest.update(data[-_SAMPLED_BYTES:])
                engine.check_file()  # else it would be that of another file, or of none
                self._fingerprint = digest.hexdigest()
            return self._fingerprint

    def __repr__(self) -> str:
        where = "closed" if self._engine is None else f"on {self.device} ({self.device_name})"
        return f"<Model {self.name!r}: {self.arch}, {self.n_layer} layers x {self.n_embd}, {self.n_vocab} tokens, {where}>"

    # ---- life ----

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a Model cannot be pickled or copied: open it in each process with Model({str(self.path)!r})")

    def close(self) -> None:
        """Give the device memory and the file back once the last state or running call lets go of them. Any use afterwards
        raises RwkvError. Closing twice is fine."""
        self._engine = None
        self._gguf.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open_engine(self) -> _core.Engine:
        if self._engine is None:
            raise RwkvError(f"[model] {self.name!r} is closed")
        return self._engine

    # ---- states ----

    def new_state(self) -> State:
        """The state of a sequence that has not begun."""
        return State._on_device(self._new_core_state(), self)

    def _new_core_state(self) -> _core.State:
        return self._open_engine().new_state()

    def _core_state(self, state: State | None) -> _core.State | None:
        if state is None:
            return None
        if not isinstance(state, State):
            raise InputError(f"[state] expected a State or None, got {type(state).__name__}")
        return state._core_for(self)

    # ---- running ----

    def forward(
        self, tokens: Tokens, state: State | None = None, all_logits: bool = False, *, progress: Progress | None = None
    ) -> tuple[npt.NDArray[np.float32], State]:
        """Read tokens; return the logits after the last one, float32 [V], and the new state.

        tokens: a token id, or a sequence or array of T of them. Long input is read in chunks, with the same result.
        state: where the sequence stands, None for its beginning. It is not changed.
        all_logits: return the logits after every token, float32 [T, V].
        progress: called as ``progress(tokens_read, tokens_to_read)`` after each chunk; an exception of its own, or Ctrl-C, ends
            the call between two chunks.

        Raises InputError for no tokens, one out of range, or a state of another model.
        """
        engine = self._open_engine()
        callback("progress", progress, where="model")
        ids = self.check_tokens(tokens)
        new = engine.new_state()
        logits = engine.forward(ids, self._core_state(state), new, "all" if all_logits else "last", progress)
        return logits, State._on_device(new, self)

    def forward_batch(
        self,
        tokens: Sequence[Tokens],
        states: Sequence[State | None] | None = None,
        *,
        progress: Progress | None = None,
    ) -> tuple[npt.NDArray[np.float32], list[State]]:
        """`forward` for B sequences at once, of any lengths: the logits after the last token of each, float32 [B, V], and
        their B new states. A step of many sequences costs little more than one of a single sequence.

        tokens: B times what `forward` takes. Rows of several sequences share the device's chunks, without padding.
        states: where each stands, None for its beginning; None for all at their beginnings. None of them is changed, and
            several sequences may go on from one state.
        progress: as in `forward`, counting the tokens of all.

        The result of a sequence does not depend on the others, up to the rounding of sums in another order.
        Raises InputError, naming the sequence, for what `forward` refuses; for no sequence; for a wrong number of states.
        """
        engine = self._open_engine()
        callback("progress", progress, where="model")
        is_list = isinstance(tokens, Sequence) or (isinstance(tokens, np.ndarray) and tokens.ndim > 0)
        if isinstance(tokens, (str, bytes)) or not is_list:
            raise InputError(f"[tokens] expected a list with the tokens of each sequence, got {type(tokens).__name__}")
        if len(tokens) == 0:
            raise InputError("[tokens] expected at least one sequence, got none")
        if states is not None and (not isinstance(states, Sequence) or len(states) != len(tokens)):
            got = f"{len(states)} of them" if isinstance(states, Sequence) else type(states).__name__
            raise InputError(f"[state] expected a list of {len(tokens)} states, one for each sequence, got {got}")
        ids, befores = [], []
        for i, own in enumerate(tokens):
            try:
                ids.append(self.check_tokens(own))
                befores.append(None if states is None else self._core_state(states[i]))
            except InputError as error:
                raise InputError(f"[tokens] sequence {i}: {error}") from None
        news = [engine.new_state() for _ in ids]
        logits = engine.forward_batch(ids, befores, news, "last", progress)
        return logits, [State._on_device(new, self) for new in news]

    def embed(
        self, text: str | bytes | Tokens, state: State | None = None, *, normalize: bool = True
    ) -> npt.NDArray[np.float32]:
        """A vector for the text, float32 [C]: the last token's hidden state after the output norm, which is what the head
        turns into logits. normalize: scale to unit length, so that a dot product is the cosine similarity.

        A language model is trained to predict, not to embed: texts that go on alike are near, paraphrases only roughly.
        Raises InputError as `forward` does; RwkvError where the model computes no finite numbers.
        """
        engine = self._open_engine()
        ids = self.encode_prompt(text)
        hidden = engine.hidden(ids, self._core_state(state), engine.new_state())
        if not np.isfinite(hidden).all():
            raise RwkvError("[embed] the model's hidden state is not finite; its weights or the state are damaged")
        if normalize:
            length = float(np.linalg.norm(hidden.astype(np.float64)))
            hidden = (hidden / length).astype(np.float32) if length > 0 else hidden
        return hidden

    @overload
    def generate(  # type: ignore[overload-overlap]  # text is a sequence of texts too; the first that fits counts
        self,
        prompt: str | bytes | Tokens,
        max_tokens: int | None = 256,
        *,
        stop: Stop = (),
        seed: int | None = None,
        state: State | None = None,
        stream: Literal[False] = False,
        samplers: Sequence[Sampler] | None = None,
        progress: Progress | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Generation: ...
    @overload
    def generate(  # type: ignore[overload-overlap]
        self,
        prompt: str | bytes | Tokens,
        max_tokens: int | None = 256,
        *,
        stop: Stop = (),
        seed: int | None = None,
        state: State | None = None,
        stream: Literal[True],
        samplers: Sequence[Sampler] | None = None,
        progress: Progress | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> GenerationStream: ...
    @overload
    def generate(
        self,
        prompt: Sequence[str | bytes | Sequence[int] | npt.NDArray[np.integer[Any]] | PromptOptions],
        max_tokens: int | None = 256,
        *,
        stop: Stop = (),
        seed: int | None = None,
        state: State | None = None,
        stream: Literal[False] = False,
        samplers: None = None,
        progress: Progress | None = None,
        batch_size: int | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> list[Generation]: ...
    @overload
    def generate(
        self,
        prompt: Sequence[str | bytes | Sequence[int] | npt.NDArray[np.integer[Any]] | PromptOptions],
        max_tokens: int | None = 256,
        *,
        stop: Stop = (),
        seed: int | None = None,
        state: State | None = None,
        stream: Literal[True],
        samplers: None = None,
        progress: Progress | None = None,
        batch_size: int | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> BatchStream: ...
    def generate(
        self,
        prompt: str | bytes | Tokens | Sequence[str | bytes | Sequence[int] | npt.NDArray[np.integer[Any]] | PromptOptions],
        max_tokens: int | None = 256,
        *,
        stop: Stop = (),
        seed: int | None = None,
        state: State | None = None,
        stream: bool = False,
        samplers: Sequence[Sampler] | None = None,
        progress: Progress | None = None,
        batch_size: int | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Generation | GenerationStream | list[Generation] | BatchStream:
        """Continue a prompt, or many at once.

        prompt: text, or token ids. Not empty. A list of these is many prompts: see below.
        max_tokens: at most so many new tokens; None for no limit.
        stop: text or a token id, or a list of them, that ends the generation and is left out of the text. The model's
            end-of-text token always does.
        seed: the same seed gives the same text on the same device; None draws one (it is in the result).
        state: where to go on from, for instance an earlier result's ``.state``; None begins a new sequence. It is not changed.
        stream: False returns a `Generation`; True a `GenerationStream`, which yields text while it is made.
        samplers: a list of `rwkvnative.sampling` samplers in place of the parameters below.
        progress: called as ``progress(tokens_read, tokens_to_read)`` while a prompt is read.
        sampling: temperature=1.0, top_p=0.7, top_k=0, min_p=0.0, typical_p=1.0, presence_penalty=0.0,
            frequency_penalty=0.0, penalty_decay=1.0, repeat_penalty=1.0, repeat_last_n=64, mirostat=False,
            mirostat_tau=5.0, mirostat_eta=0.1, logit_bias=None: see `SamplingParams`.

        Many prompts: a list gives a list of `Generation` in the same order or, with stream=True, a `BatchStream` of
        (index, text) pairs. Prompts are read beside the texts that are being made; a finished one makes room for the next.
        An item may be a dict ``{"prompt": ...}`` with any of the arguments above that is that prompt's own: max_tokens, stop,
        seed, state, samplers or sampling parameters.
        batch_size: at most so many texts grow together; None picks one for the device (each costs two states of memory).
        seed: prompt i gets seed + i. A text does not depend on the company it is made in, up to the rounding of sums in another
            order, which may tip the choice between two nearly equal tokens.
        A result's ``.state`` is read from its tokens again when it is first asked for: a batch keeps none.

        Raises InputError, before anything runs, for any argument out of range.
        """
        from .batching import is_batch, start_batch
        from .generation import start

        if is_batch(prompt):
            batch = start_batch(
                self,
                prompt,  # type: ignore[arg-type]
                batch_size=batch_size,
                max_tokens=max_tokens,
                stop=stop,
                seed=seed,
                state=state,
                samplers=samplers,
                progress=progress,
                sampling=sampling,
            )
            return batch if stream else batch.read()
        if batch_size is not None:
            raise InputError("[generate] batch_size: it is for a list of prompts, and this is one prompt")
        run = start(
            self,
            prompt,  # type: ignore[arg-type]
            max_tokens=max_tokens,
            stop=stop,
            seed=seed,
            state=state,
            samplers=samplers,
            progress=progress,
            sampling=sampling,
        )
        return run if stream else run.read()

    @overload
    def chat(
        self, messages: Sequence[Message], max_tokens: int | None = 512, *, stream: Literal[False] = False, **options: Unpack[ChatOptions]
    ) -> Generation: ...
    @overload
    def chat(
        self, messages: Sequence[Message], max_tokens: int | None = 512, *, stream: Literal[True], **options: Unpack[ChatOptions]
    ) -> GenerationStream: ...
    def chat(
        self, messages: Sequence[Message], max_tokens: int | None = 512, *, stream: bool = False, **options: Unpack[ChatOptions]
    ) -> Generation | GenerationStream:
        """Answer a conversation, written in the model's own chat template.

        messages: dicts ``{"role": "system" | "user" | "assistant", "content": text}``; the last is the user's.
        max_tokens, stream: as in `generate`.
        options: think=True lets a reasoning model begin with ``<think>``; the rest (stop, seed, progress and the sampling
            parameters) as in `generate`.

        The answer ends at the model's end-of-turn token or where the user's next turn would begin, and comes without white
        space around it. For several turns in a row a `chat_session()` does not read the history again.
        Raises InputError for malformed messages, or if the template refuses them.
        """
        from .chat import answer

        run = answer(self, messages, max_tokens, options)
        return run if stream else run.read()

    def chat_session(self, system: str | None = None, **options: Unpack[ChatOptions]) -> ChatSession:
        """A conversation that keeps its state between turns. system: instructions that stand first. options: as in `chat`,
        for every turn."""
        from .chat import ChatSession

        return ChatSession(self, system, **options)

    # ---- checks ----

    def check_tokens(self, tokens: Tokens) -> npt.NDArray[np.int32]:
        """The tokens as an int32 array [T], T >= 1; InputError if they are not token ids of this model."""
        if isinstance(tokens, _TEXT):
            raise InputError(
                f"[tokens] expected token ids, got {type(tokens).__name__}: encode text with model.tokenizer.encode(text)"
            )
        try:
            array = np.atleast_1d(np.asarray(tokens))
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"[tokens] expected a token id or a sequence of them, got {type(tokens).__name__} ({error})") from None
        if array.ndim != 1:
            raise InputError(f"[tokens] expected one dimension, got an array of shape {list(array.shape)}")
        if array.dtype.kind == "O" and array.size == 1 and array[0] is tokens:  # no sequence for numpy: a generator, a set, None
            raise InputError(f"[tokens] expected a token id or a sequence of them, got {type(tokens).__name__}")
        if array.size == 0:
            raise InputError("[tokens] expected at least one token, got none")
        if array.dtype.kind not in "iu":
            raise InputError(f"[tokens] expected whole numbers of at most 64 bits, got {array.dtype} values such as {repr(array[0])[:40]}")
        bad = np.flatnonzero((array < 0) | (array >= self.n_vocab))
        if len(bad):
            i = int(bad[0])
            raise InputError(f"[tokens] token {i} of {array.size}: expected an id from 0 to {self.n_vocab - 1}, got {int(array[i])}")
        return np.ascontiguousarray(array, dtype=np.int32)

    def encode_prompt(self, prompt: str | bytes | Tokens) -> npt.NDArray[np.int32]:
        """Text or token ids as an int32 array [T], T >= 1; InputError for an empty prompt or bad ids."""
        if not isinstance(prompt, _TEXT):
            if isinstance(prompt, Sequence) and len(prompt) > 0 and isinstance(prompt[0], _TEXT):
                raise InputError(f"[prompt] expected one text, or a sequence of token ids, got a {type(prompt).__name__} of texts")
            return self.check_tokens(prompt)
        if not prompt:
            raise InputError("[prompt] the prompt is empty; expected at least one character")
        return np.asarray(self.tokenizer.encode(prompt if isinstance(prompt, str) else bytes(prompt)), dtype=np.int32)
