"""Conversations: the chat template of the file, the end of a turn, and state kept between turns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict, cast

from .checks import boolean
from .errors import FileError, InputError
from .files import printable
from .generation import Generation, GenerationStream, parse_stop, start
from .sampling.params import SamplingOptions
from .state import State
from .tokenizer import WorldTokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .generation import Stop, _Run
    from .model import Model, Progress

__all__ = ["ChatOptions", "ChatSession", "Message", "RWKV_WORLD", "check_messages", "render_chat"]

RWKV_WORLD: Final = "rwkv-world"  # what older files hold in place of a template
_WORLD_NAMES: Final = {"system": "System", "user": "User", "assistant": "Assistant"}
_NEXT_USER_TURN: Final = "\n\nUser:"


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


class ChatOptions(SamplingOptions, total=False):
    """Keyword arguments of `Model.chat`: the sampling parameters, and these."""

    stop: Stop
    seed: int | None
    think: bool
    progress: Progress | None


def check_messages(messages: Any) -> list[Message]:
    """The messages, checked; InputError that says which one is wrong and how."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise InputError(f"[chat] messages: expected a list of dicts with role and content, got {type(messages).__name__}")
    if not messages:
        raise InputError("[chat] messages: expected at least one message, got none")
    for i, message in enumerate(messages):
        where = f"[chat] message {i}"
        if not isinstance(message, Mapping):
            raise InputError(f"{where}: expected a dict with role and content, got {type(message).__name__}")
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                got = type(message[key]).__name__ if key in message else "nothing"
                raise InputError(f"{where}: {key}: expected text, got {got}")
        if message["role"] not in _WORLD_NAMES:
            raise InputError(f"{where}: role: expected system, user or assistant, got {message['role']!r}")
        if message["role"] == "system" and i > 0:
            raise InputError(f"{where}: a system message can only stand first")
        if message["role"] == "user" and not message["content"].strip():
            raise InputError(f"{where}: content: the user's message is empty")
    if messages[-1]["role"] != "user":
        raise InputError(f"[chat] the last message must be the user's, got one of role {messages[-1]['role']!r}")
    return [cast(Message, dict(message)) for message in messages]


def _one_paragraph(content: str) -> str:
    """Blank lines end a turn in this format, so within a turn they become line ends (as the RWKV author's scripts do)."""
    return re.sub(r"\n\s*\n", "\n", content.replace("\r\n", "\n")).strip()


def _render_world(messages: Sequence[Message], think: bool) -> str:
    turns = [f"{_WORLD_NAMES[m['role']]}: {_one_paragraph(m['content'])}\n\n" for m in messages]
    return "".join(turns) + ("Assistant: <think>" if think else "Assistant:")


def _render_jinja(template: str, messages: Sequence[Message], variables: Mapping[str, Any], where: str) -> str:
    import datetime

    import jinja2
    import jinja2.sandbox

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda layout: datetime.datetime.now().strftime(layout)
    try:
        compiled = environment.from_string(template)
    except Exception as error:  # Jinja's own, or Python's, which compiles what Jinja made of it
        raise FileError(f"[chat] {where}: its chat template is not valid Jinja: {_in_words(error)}") from None
    try:
        prompt = compiled.render(messages=list(messages), add_generation_prompt=True, **variables)
    except Exception as error:  # a template is a program of the file's author: whatever it raises, it refused the messages
        raise InputError(f"[chat] the chat template of {where} refuses these messages: {_in_words(error)}") from None
    if not prompt:
        raise InputError(f"[chat] the chat template of {where} makes no text of these messages; expected at least one character")
    return prompt


def _in_words(error: Exception) -> str:
    """What a template's error says, on one line. Some say nothing (MemoryError)."""
    return printable(str(error)) or type(error).__name__


def chat_template(model: Model) -> str:
    """The file's chat template: Jinja, or "rwkv-world", also where the file has none."""
    template = model.metadata.get("tokenizer.chat_template", RWKV_WORLD)
    if not isinstance(template, str):
        raise FileError(f"[chat] {model.path}: key 'tokenizer.chat_template': expected a string, got {type(template).__name__}")
    return RWKV_WORLD if not template.strip() or template.strip() == RWKV_WORLD else template


def render_chat(model: Model, messages: Sequence[Message], *, think: bool = False) -> str:
    """The prompt for an answer to the messages, in the model's template.

    ``rwkv-world`` is ``System: ...\\n\\nUser: ...\\n\\nAssistant:``; with think it ends in ``Assistant: <think>``.
    """
    checked = check_messages(messages)
    template = chat_template(model)
    if template == RWKV_WORLD:
        return _render_world(checked, think)

    def spelling(token: int | None) -> str:
        return "" if token is None else model.tokenizer.token_bytes(token).decode("utf-8", "replace")

    variables = {
        "bos_token": spelling(model.tokenizer.bos_id),
        "eos_token": spelling(model.tokenizer.eos_id),
        "enable_thinking": think,
    }
    return _render_jinja(template, checked, variables, str(model.path))


def _turn_end(model: Model, prompt: str) -> tuple[list[str], list[int]]:
    """Stop strings and stop tokens that end the assistant's turn.

    World models end it with a blank line (their end-of-turn token), or begin the next ``User:``. A blank line says nothing
    while a model thinks aloud, so after ``<think>`` only the latter counts. Elsewhere it is the end-of-turn token.
    """
    tokenizer = model.tokenizer
    strings = [_NEXT_USER_TURN] if "User:" in prompt else []
    eot = tokenizer.eot_id
    if eot is None:
        return strings, []
    spelling = tokenizer.decode([eot])  # empty for a control token
    if not spelling:
        return strings, [eot]
    return (strings if prompt.rstrip().endswith("<think>") else [*strings, spelling]), []


def _encode_chat(model: Model, text: str, messages: Sequence[Message]) -> list[int]:
    """A World prompt is plain text. Other templates spell control tokens, which a message must then not forge."""
    tokenizer = model.tokenizer
    if isinstance(tokenizer, WorldTokenizer):
        return tokenizer.encode(text)
    for i, message in enumerate(messages):
        content = message["content"].encode("utf-8", "replace")
        forged = next((s for s in tokenizer.special_tokens if s in content), None)
        if forged is not None:
            raise InputError(f"[chat] message {i}: content: {forged.decode('utf-8', 'replace')!r} is a control token of this model")
    return tokenizer.encode(text, allow_special=True)


def _start_answer(
    model: Model,
    messages: Sequence[Message],
    prompt: str,
    n_read: int,
    state: State | None,
    max_tokens: int | None,
    options: ChatOptions,
) -> GenerationStream:
    """Generate an answer to the prompt, whose first n_read characters `state` has read."""
    strings, ids = _turn_end(model, prompt)
    sampling: dict[str, Any] = dict(options)
    sampling.pop("think", None)
    seed, progress = sampling.pop("seed", None), sampling.pop("progress", None)
    given, given_ids = parse_stop(sampling.pop("stop", ()), model.n_vocab)
    return start(
        model,
        _encode_chat(model, prompt[n_read:], messages),
        max_tokens=max_tokens,
        stop=[*strings, *given],
        extra_stop_ids=[*ids, *given_ids],
        seed=seed,
        state=state,
        samplers=None,
        progress=progress,
        sampling=cast(SamplingOptions, sampling),
        strip=True,
    )


def _check_think(options: ChatOptions) -> bool:
    return boolean("think", options.get("think", False), where="chat")


def answer(model: Model, messages: Sequence[Message], max_tokens: int | None, options: ChatOptions) -> GenerationStream:
    """`Model.chat`, as a stream."""
    prompt = render_chat(model, messages, think=_check_think(options))
    return _start_answer(model, messages, prompt, 0, None, max_tokens, options)


class ChatSession:
    """A conversation that reads each turn once.

    After a turn the session knows the text that it has read and the state after it; also those from before the answer. If
    the next prompt, rendered in full, begins with such a text, only the rest is read.

    messages: the conversation so far. An answer is appended when it is finished, or cancelled, with what it said.
    """

    def __init__(self, model: Model, system: str | None = None, **options: Unpack[ChatOptions]) -> None:
        if system is not None and not isinstance(system, str):
            raise InputError(f"[chat] system: expected text or None, got {type(system).__name__}")
        _check_think(options)
        self._model = model
        self._options = options
        self._system: list[Message] = [{"role": "system", "content": system}] if system and system.strip() else []
        self.messages: list[Message] = list(self._system)
        self._checkpoints: list[_Checkpoint] = []  # the longest text first

    def reset(self) -> None:
        """Begin a new conversation with the same system message."""
        self.messages = list(self._system)
        self._checkpoints = []

    def send(self, text: str, max_tokens: int | None = 512) -> Generation:
        """Say something; returns the answer."""
        with self.stream(text, max_tokens) as stream:
            return stream.read()

    def stream(self, text: str, max_tokens: int | None = 512) -> ChatStream:
        """Say something; yields the answer as it is made. Read it to the end or close it before the next turn."""
        messages: list[Message] = [*self.messages, {"role": "user", "content": text}]
        prompt = render_chat(self._model, messages, think=self._options.get("think", False))
        read, state = "", None
        for checkpoint in self._checkpoints:
            if len(prompt) > len(checkpoint.text) and prompt.startswith(checkpoint.text):
                read, state = checkpoint.text, checkpoint.state()
                break
        stream = _start_answer(self._model, messages, prompt, len(read), state, max_tokens, self._options)
        return ChatStream(self, stream, messages, prompt)

    def _finish(self, messages: list[Message], prompt: str, run: _Run) -> None:
        generation = run.result()
        _, _, said = generation.text.rpartition("</think>")  # what a model thought is not part of the conversation
        self.messages = [*messages, {"role": "assistant", "content": said.strip()}]
        self._checkpoints = [_Checkpoint(prompt + generation.raw_text, lambda: generation.state)]
        if run.prompt_state is not None:
            before = run.prompt_state
            self._checkpoints.append(_Checkpoint(prompt, lambda: before))


class _Checkpoint(NamedTuple):
    text: str
    state: Callable[[], State]


class ChatStream(GenerationStream):
    """The answer of a `ChatSession`, in pieces; at its end, also an early one, the turn becomes part of the session."""

    def __init__(self, session: ChatSession, stream: GenerationStream, messages: list[Message], prompt: str) -> None:
        super().__init__(stream._run)
        self._run.keep_prompt_state = True
        self._session = session
        self._messages = messages
        self._prompt = prompt
        self._recorded = False

    def __next__(self) -> str:
        try:
            return super().__next__()
        except StopIteration:
            self._record()
            raise

    def close(self) -> None:
        super().close()
        if self._done:  # else another thread reads, and comes to the end of it
            self._record()

    def _record(self) -> None:
        if not self._recorded:
            self._recorded = True
            self._session._finish(self._messages, self._prompt, self._run)
