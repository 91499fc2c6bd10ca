"""Tables for a person, through rich: as wide as the terminal, or as wide as they need where there is none."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_UNLIMITED = 100_000
_NUMERIC = set("0123456789.,+-% ()")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None, *, to_stderr: bool = False) -> None:
    """Columns of numbers are aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    stream = sys.stderr if to_stderr else sys.stdout
    console = Console(file=stream, width=None if stream.isatty() else _UNLIMITED, highlight=False)
    table = Table(title=title if stream.isatty() else None, title_justify="left")
    for i, heading in enumerate(headings):
        cells = [row[i] for row in rows]
        numeric = any(cells) and all(set(cell) <= _NUMERIC for cell in cells)
        table.add_column(Text(heading), justify="right" if numeric else "left", overflow="fold")  # nothing is lost where it is narrow
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if not stream.isatty():  # a file or a pipe gets whole lines, whatever their length
        if title is not None:
            print(title, file=stream)
        console.width = console.measure(table).maximum
    console.print(table)
