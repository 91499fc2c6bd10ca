"""``rwkvnative info``, ``devices`` and ``tokenize``: looking without running."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..files import check_path, printable
from . import options as opt
from .terminal import command, print_fields, print_json, read_stdin, write

if TYPE_CHECKING:
    from ..gguf_file import GgufFile

_LONG = 8  # longer arrays are summed up where a person reads


def _open_file(path: str | None) -> GgufFile:
    from ..gguf_file import GgufFile
    from ..model import embedded_model_path

    return GgufFile(embedded_model_path() if path is None else check_path(path, "[model] path"))


@command
def info(
    model: Annotated[str | None, typer.Argument(metavar="[FILE]", help="GGUF file; without it the embedded model.")] = None,
    option: opt.ModelPath = None,
    metadata: Annotated[bool, typer.Option("--metadata", help="Also every key of the file.")] = False,
    tensors: Annotated[bool, typer.Option("--tensors", help="Also every tensor.")] = False,
    json: opt.Json = False,
) -> None:
    """Say what a model file holds, without loading it."""
    from ..model_config import rwkv_config

    if model is not None and option is not None:
        raise InputError("[info] give the file once, as an argument or with --model")
    with _open_file(option if model is None else model) as file:
        arch, config = rwkv_config(file)
        n_state = config["n_layer"] * config["n_embd"] * (2 + config["head_size"])
        facts: dict[str, Any] = {
            "name": file.metadata.get("general.name"),
            "path": str(file.path),
            "architecture": arch,
            "n_parameters": sum(math.prod(t.shape_ne) for t in file.tensors.values()),
            "file_bytes": len(file.data),
            "state_bytes": int(4 * n_state),
            **config,
            "tensor_types": dict(Counter(t.type_name for t in file.tensors.values()).most_common()),
            "tokenizer": file.metadata.get("tokenizer.ggml.model"),
        }
        directory: list[dict[str, Any]] = [
            {"name": t.name, "type": t.type_name, "shape": list(t.shape_ne), "bytes": t.n_bytes} for t in file.tensors.values()
        ]
        if json:
            extra = {"metadata": file.metadata} if metadata else {}
            print_json(facts | extra | ({"tensors": directory} if tensors else {}))
            return
        own = {key: printable(value) for key, value in facts.items() if isinstance(value, str)}  # a file's texts, and its name
        print_fields(facts | own | {"tensor_types": ", ".join(f"{n} {t}" for t, n in facts["tensor_types"].items())})
        if metadata:
            write("\n")
            print_fields({key: _short(value) for key, value in file.metadata.items()})
        if tensors:
            write("\n")
            print_fields({t["name"]: f"{t['type']:<7} {t['shape']}" for t in directory})


def _short(value: Any) -> str:
    if isinstance(value, str):
        return repr(value) if len(value) <= 200 else f"{value[:200]!r}... ({len(value)} characters)"
    if hasattr(value, "__len__") and len(value) > _LONG:
        return f"{len(value)} values, beginning {list(value[:_LONG])}"
    return str(value)


@contextmanager
def _without_dawn_warnings() -> Iterator[None]:
    """Dawn tells the process's stderr which limits of a software adapter it reduced, and has no switch for that. Other lines
    written meanwhile come out afterwards."""
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            caught.seek(0)
            for line in caught.read().splitlines(keepends=True):
                if not line.startswith(b"Warning: ") or b"artificially reduced" not in line:
                    os.write(2, line)


@command
def devices(json: opt.Json = False) -> None:
    """List the devices that --device takes, best first."""
    from ..model import devices as list_devices

    with _without_dawn_warnings():
        found = list_devices()
    if json:
        print_json(found)
        return
    for d in found:
        memory = f", {d['memory_bytes'] / 2**30:.1f} GiB" if d["memory_bytes"] else ""
        features = f"  [{' '.join(d['features'])}]" if d["features"] else ""
        write(f"{d['device']:<12} {d['name']} ({d['backend']}, {d['kind']}{memory}){features}\n")


@command
def tokenize(
    text: Annotated[list[str], typer.Argument(help="Text, - for stdin; with --decode, token ids.")],
    model: opt.ModelPath = None,
    decode: Annotated[bool, typer.Option("--decode", help="Token ids to text.")] = False,
    json: opt.Json = False,
) -> None:
    """Show how a model's vocabulary cuts text into tokens, or put token ids together again."""
    from ..tokenizer import tokenizer_from_gguf

    with _open_file(model) as file:
        tokenizer = tokenizer_from_gguf(file)
    if decode:
        try:
            ids = [int(word) for item in ([read_stdin()] if text == ["-"] else text) for word in item.replace(",", " ").split()]
        except ValueError as error:
            raise InputError(f"[tokenize] --decode: expected token ids such as 5 or 5,6,7: {error}") from None
    else:
        ids = tokenizer.encode(read_stdin() if text == ["-"] else " ".join(text))
    joined = tokenizer.decode(ids, special=True)
    if json:
        pieces = [tokenizer.token_bytes(i).decode("utf-8", "backslashreplace") for i in ids]
        print_json({"ids": ids, "pieces": pieces, "text": joined, "n_tokens": len(ids)})
    elif decode:
        write(joined + "\n")
    else:
        for i in ids:
            write(f"{i:>7}  {_spelling(tokenizer.token_bytes(i))}\n")


def _spelling(piece: bytes) -> str:
    """A token as Python would write it: text where it is UTF-8, bytes where not."""
    try:
        return repr(piece.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(piece)
