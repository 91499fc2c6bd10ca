"""``rwkvnative generate``: continue a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import FileError, InputError
from ..files import check_writable
from . import batch
from . import options as opt
from .terminal import INTERRUPTED, ProgressBar, command, note, print_json, read_stdin, write

if TYPE_CHECKING:
    from ..generation import Generation
    from ..model import Model

DEFAULT_PROMPT = "Once upon a time"


@command
def generate(
    prompt: Annotated[str | None, typer.Argument(help="Text to continue; - reads stdin.")] = None,
    model: opt.ModelPath = None,
    prompt_file: Annotated[str | None, typer.Option(metavar="FILE", help="Read the prompt from a file.")] = None,
    prompts_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Many prompts at once: one a line or, in a .jsonl file, strings or objects with prompt and options."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="So many of them grow together; without it what suits the device.")] = None,
    max_tokens: opt.MaxTokens = 256,
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
    state: Annotated[str | None, typer.Option(metavar="FILE", help="Go on from a saved state.")] = None,
    save_state: Annotated[str | None, typer.Option(metavar="FILE", help="Save the state at the end.")] = None,
    device: opt.Device = "auto",
    threads: opt.Threads = None,
    numerics: opt.Numerics = "auto",
    max_device_memory: opt.MaxDeviceMemory = None,
    echo: Annotated[bool, typer.Option(help="Print the prompt before its continuation.")] = True,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Continue a text. Without arguments, the embedded model tells a story."""
    sampling = opt.sampling_options(locals())
    if save_state is not None:  # before minutes of generating
        check_writable(save_state, "[state]")
    if prompts_file is not None:
        if prompt is not None or prompt_file is not None or save_state is not None:
            raise InputError("[prompt] --prompts-file goes with neither a prompt, nor --prompt-file, nor --save-state")
        prompts = batch.read_prompts(prompts_file)
    elif batch_size is not None:
        raise InputError("[prompt] --batch-size is for --prompts-file")
    else:
        text = _prompt_text(prompt, prompt_file)
    loaded = opt.open_model(model, device, threads, numerics, max_device_memory)
    from ..state import State

    begin = None if state is None else State.load(state, loaded)
    if prompts_file is not None:
        for item in prompts:
            if isinstance(item, dict) and isinstance(item.get("state"), str):
                item["state"] = State.load(item["state"], loaded)
        many = loaded.generate(prompts, max_tokens, stream=True, state=begin, batch_size=batch_size, **sampling)
        if batch.run(loaded, prompts, many, echo=echo, as_json=json, quiet=quiet):
            raise typer.Exit(INTERRUPTED)
        return
    interrupted = False
    with ProgressBar("reading the prompt") as progress:
        stream = loaded.generate(text, max_tokens, stream=True, state=begin, progress=progress, **sampling)
        shown = text if echo else ""  # with the first piece: until then there may be a progress bar
        try:
            for piece in stream:
                if not json:
                    write(shown + piece)
                shown = ""
        except KeyboardInterrupt:
            interrupted, shown = True, ""
        finally:
            stream.close()
    result = stream.result
    if json:
        print_json(report(result, loaded))
    else:
        write(shown + "\n")
    if not quiet and not json:
        note(speed_line(result))
    if save_state is not None:
        result.state.save(save_state)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _prompt_text(prompt: str | None, prompt_file: str | None) -> str:
    if prompt_file is not None:
        if prompt is not None:
            raise InputError("[prompt] give a prompt or --prompt-file, not both")
        try:
            with open(prompt_file, encoding="utf-8", errors="surrogateescape", newline="") as file:
                return file.read()
        except OSError as error:
            raise FileError(f"[prompt] {prompt_file}: cannot read: {error.strerror or error}") from None
    if prompt == "-":
        return read_stdin()
    return DEFAULT_PROMPT if prompt is None else prompt


def report(result: Generation, model: Model) -> dict[str, Any]:
    """A generation as JSON."""
    t = result.timings
    return {
        "text": result.text,
        "tokens": result.tokens,
        "finish_reason": result.finish_reason,
        "stop": result.stop,
        "seed": result.seed,
        "prompt_tokens": t.prompt_tokens,
        "prompt_seconds": round(t.prompt_seconds, 6),
        "generated_seconds": round(t.generated_seconds, 6),
        "tokens_per_second": round(t.tokens_per_second, 3),
        "model": model.name,
        "device": model.device,
    }


def speed_line(result: Generation) -> str:
    """One line on how fast it was and why it ended."""
    t = result.timings
    prompt = f"{t.prompt_tokens} prompt tokens"
    if t.prompt_seconds > 0 and t.prompt_tokens > 1:
        prompt += f" at {t.prompt_tokens_per_second:.1f} tokens/s"
    end = {"length": "max-tokens reached", "stop": "ended by itself", "cancelled": "interrupted"}[result.finish_reason]
    seed = "" if result.seed is None else f", seed {result.seed}"
    return f"[{prompt}; {len(result.tokens)} new at {t.tokens_per_second:.1f} tokens/s; {end}{seed}]"
