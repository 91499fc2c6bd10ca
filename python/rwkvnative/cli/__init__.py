"""The ``rwkvnative`` command. Text goes to stdout, everything about it (progress, speed, errors) to stderr.

Exit status: 0 done, 1 `selftest` found a mismatch, 2 bad input (with one sentence), 130 Ctrl-C, 141 the reader of stdout went away,
143 and 129 for SIGTERM and SIGHUP.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from . import bench, chat, generate, inspect, profile, quantize, selftest, tune
from .terminal import exit_status, open_missing_streams

__all__ = ["app", "main"]

app = typer.Typer(
    name="rwkvnative",
    help="Run RWKV language models from GGUF files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (generate.generate, chat.chat, inspect.info, inspect.devices, inspect.tokenize, quantize.quantize, bench.bench,
                 profile.profile, tune.tune, selftest.selftest):
    app.command()(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        import rwkvnative

        print(rwkvnative.__version__)
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Run RWKV language models from GGUF files."""


def main() -> None:
    """The whole program, once its modules are imported (see ``__main__``)."""
    open_missing_streams()
    try:
        with exit_status():  # of what happens before or after a command's own handling, of --help and --version
            try:
                app(prog_name="rwkvnative")
            finally:
                sys.stdout.flush()  # here a failure gets its sentence and status; later it would be Python's own
    except typer.Exit as end:
        sys.exit(end.exit_code)
