"""``rwkvnative selftest``: whether a device computes what it should."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from . import options as opt
from .tables import print_table
from .terminal import command, note, print_json

if TYPE_CHECKING:
    from ..selftest import Check

MISMATCH = 1


@command
def selftest(
    device: opt.Device = "auto",
    only: Annotated[str, typer.Option(metavar="TEXT", help="Only the checks whose name holds this.")] = "",
    json: opt.Json = False,
) -> None:
    """Try every kernel of a device on small random models, against the CPU's reference kernels. Exit status 1 on a mismatch."""
    from .. import __version__, selftest

    info = selftest.describe(device)
    about = {"device": info["device"], "device_name": info["device_name"], "features": info["features"], "version": __version__,
             "system": platform.platform(), "python": platform.python_version()}  # fmt: skip
    checks: list[Check] = []
    for check in selftest.run(info["device"], only):
        checks.append(check)
        if sys.stderr.isatty():
            note(f"{_verdict(check):<8} {check.name}")
    if not checks:
        raise InputError(f"[selftest] --only {only!r}: no check has that in its name")
    bad = [check for check in checks if not check.ok]
    if json:
        rows = [{"name": c.name, "ok": c.ok, "error": c.error, "bound": c.bound, "seconds": c.seconds, "problem": c.problem} for c in checks]
        print_json(about | {"ok": not bad, "checks": rows})
    else:
        print_table(
            ["check", "error", "bound", "s", "verdict"],
            [[c.name, "" if c.error is None else f"{c.error:.1e}", f"{c.bound:.0e}", f"{c.seconds:.1f}", _verdict(c)] for c in checks],
        )
        for check in bad:
            note(f"{check.name}: {check.problem or 'wrong numbers'}")
        print(f"{about['device_name']} ({about['device']}, rwkvnative {about['version']}, {about['system']}): ", end="")
        print(f"{len(bad)} of {len(checks)} checks failed" if bad else f"all {len(checks)} checks passed")
    if bad:
        raise typer.Exit(MISMATCH)


def _verdict(check: Check) -> str:
    return "ok" if check.ok else "FAILED" if check.error is None else "MISMATCH"

