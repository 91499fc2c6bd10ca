"""``rwkvnative`` and ``python -m rwkvnative``: the command line."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> None:
    """Entry point of the ``rwkvnative`` script."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else a shell started it with Ctrl-C ignored
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # while modules are imported Ctrl-C just ends the process, without a traceback
    from .cli import main as run

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGTERM", "SIGHUP"):  # a file that is half written is taken away
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)
    run()


if __name__ == "__main__":
    main()
