"""``rwkvnative generate --prompts-file``: many prompts in one run."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from ..errors import FileError, InputError
from . import options as opt
from .terminal import ProgressBar, note, print_json, read_stdin, write

if TYPE_CHECKING:
    from ..batching import BatchStream, PromptOptions
    from ..generation import Generation
    from ..model import Model

# Of a line of JSONL, beside the sampling parameters; "state" names the file of a saved one.
_LINE_OPTIONS = ("prompt", "max_tokens", "stop", "seed", "state")


def read_prompts(path: str) -> list[Any]:
    """The prompts of a file, - being stdin: one a line, blank lines left out; of a ``.jsonl`` file each line is a string or an
    object with "prompt" and options of `Model.generate`."""
    try:
        if path == "-":
            text = read_stdin()
        else:
            with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
                text = file.read()
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"[prompt] {path}: cannot read: {error.strerror or error}") from None
    # Not splitlines(): JSON strings, and texts, may hold other characters that it takes for line ends.
    numbered = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not numbered:
        raise InputError(f"[prompt] {path}: expected at least one prompt, got none")
    if not path.endswith(".jsonl"):
        return [line for _, line in numbered]
    prompts = []
    for i, line in numbered:
        try:
            prompts.append(_options_of_line(json.loads(line)))
        except (ValueError, RecursionError) as error:  # an InputError is a ValueError
            raise InputError(f"[prompt] {path}, line {i}: {error}") from None
    return prompts


def _options_of_line(value: Any) -> str | PromptOptions:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise InputError(f'expected a string or an object with "prompt", got {type(value).__name__}')
    from ..sampling import SamplingParams

    known = (*_LINE_OPTIONS, *SamplingParams.__dataclass_fields__)
    for key in value:
        if key not in known:
            raise InputError(f"unknown option {key!r}; expected some of {', '.join(known)}")
    if isinstance(value.get("logit_bias"), dict):  # keys of JSON objects are strings
        value["logit_bias"] = opt.parse_logit_bias([f"{token}={bias}" for token, bias in value["logit_bias"].items()])
    options: PromptOptions = value  # type: ignore[assignment]  # `generate` checks the values
    return options


def run(model: Model, prompts: list[Any], stream: BatchStream, *, echo: bool, as_json: bool, quiet: bool) -> bool:
    """Prints each result when it is there: JSON lines with their index as they finish, texts in the order of the prompts.
    True if Ctrl-C ended it; what there is has then been printed."""
    from .generate import report

    begin = time.perf_counter()
    interrupted = False
    printed = [False] * len(prompts)

    def show(index: int) -> None:
        result = stream.result(index)
        printed[index] = True
        if as_json:
            print_json({"index": index, **report(result, model)})
        else:
            write((_text(prompts[index]) if echo else "") + result.text + "\n\n")

    with ProgressBar("prompts") as progress:
        try:
            for _ in stream:
                _show_ready(stream, printed, show, in_order=not as_json)
                if not sys.stdout.isatty():
                    progress(sum(printed), len(prompts))
        except KeyboardInterrupt:
            interrupted = True
        finally:
            stream.close()
    for index in range(len(prompts)):
        if not printed[index]:
            show(index)
    if not quiet and not as_json:
        note(_speed_line(stream.results, time.perf_counter() - begin))
    return interrupted


def _show_ready(stream: BatchStream, printed: list[bool], show: Any, *, in_order: bool) -> None:
    for index, done in enumerate(printed):
        if done:
            continue
        if stream.is_finished(index):
            show(index)
        elif in_order:
            return


def _text(prompt: Any) -> str:
    prompt = prompt["prompt"] if isinstance(prompt, dict) else prompt
    return prompt if isinstance(prompt, str) else ""


def _speed_line(results: list[Generation], seconds: float) -> str:
    read = sum(r.timings.prompt_tokens for r in results)
    made = sum(len(r.tokens) for r in results)
    rate = made / seconds if seconds > 0 else 0.0
    ends = {"cancelled": "interrupted", "length": "at max-tokens", "stop": "ended by themselves"}
    counts = [f"{n} {text}" for reason, text in ends.items() if (n := sum(r.finish_reason == reason for r in results))]
    return f"[{len(results)} prompts, {read} tokens read, {made} new in {seconds:.2f} s: {rate:.1f} tokens/s; {', '.join(counts)}]"
