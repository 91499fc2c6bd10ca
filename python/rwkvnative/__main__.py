"""``python -m rwkvnative``: the command line."""

from .cli import main

main()
