"""``rwkvnative chat``: a conversation in the terminal, or turn by turn from a program."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import FileError
from ..files import printable
from . import options as opt
from .generate import report, speed_line
from .terminal import INTERRUPTED, ProgressBar, command, note, print_json, write

if TYPE_CHECKING:
    from ..chat import ChatSession
    from ..model import Model

_HELP = "/reset begins anew, /quit or Ctrl-D ends, Ctrl-C stops an answer"


@command
def chat(
    model: opt.ModelPath = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="Instructions that stand first.")] = None,
    think: Annotated[bool, typer.Option("--think", help="Let a reasoning model think first.")] = False,
    max_tokens: opt.MaxTokens = 512,
    stop: opt.StopText = None,
    seed: opt.Seed = None,
    temperature: opt.Temperature = 1.0,
    top_p: opt.TopP = None,
    top_k: opt.TopK = 0,
    min_p: opt.MinP = 0.0,
    typical_p: opt.TypicalP = 1.0,
    presence_penalty: opt.PresencePenalty = 0.0,
    frequency_penalty: opt.FrequencyPenalty = 0.0,
    penalty_decay: opt.PenaltyDecay = 1.0,
    repeat_penalty: opt.RepeatPenalty = 1.0,
    repeat_last_n: opt.RepeatLastN = 64,
    mirostat: opt.Mirostat = False,
    mirostat_tau: opt.MirostatTau = 5.0,
    mirostat_eta: opt.MirostatEta = 0.1,
    logit_bias: opt.LogitBias = None,
    device: opt.Device = "auto",
    threads: opt.Threads = None,
    numerics: opt.Numerics = "auto",
    max_device_memory: opt.MaxDeviceMemory = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Talk with a model. Each line is a turn; with --json each answer is a line of JSON."""
    sampling = opt.sampling_options(locals())
    loaded = opt.open_model(model, device, threads, numerics, max_device_memory)
    with ProgressBar("reading") as progress:
        session = loaded.chat_session(system, think=think, progress=progress, **sampling)
        person = sys.stdin.isatty() and not json
        if person:
            note(f"{printable(loaded.name)} on {loaded.device_name}. {_HELP}.")
        while (line := _next_line(person)) is not None:
            if line == "/quit":
                break
            if line == "/reset":
                session.reset()
            elif line == "/help":
                note(_HELP)
            elif line:
                _answer(session, loaded, line, max_tokens, json=json, quiet=quiet, person=person)


def _next_line(person: bool) -> str | None:
    """The next turn without white space around it; None at the end of input."""
    if person:
        try:
            import readline  # noqa: F401  # gives input() a history and line editing where the platform has it
        except ImportError:
            pass
        try:
            return input("> ").strip()
        except EOFError:
            write("\n")
            return None
        except KeyboardInterrupt:
            write("\n")
            raise
    try:
        line = sys.stdin.readline()
    except OSError as error:
        raise FileError(f"[chat] standard input: cannot read: {error.strerror or error}") from None
    return line.strip() if line else None


def _answer(
    session: ChatSession, model: Model, line: str, max_tokens: int, *, json: bool, quiet: bool, person: bool
) -> None:
    interrupted = False
    stream: Any = session.stream(line, max_tokens)
    try:
        for piece in stream:
            if not json:
                write(piece)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        stream.close()
    if json:
        print_json(report(stream.result, model))
    else:
        write("\n")
        if not quiet:
            note(speed_line(stream.result))
    if interrupted and not person:
        raise typer.Exit(INTERRUPTED)
