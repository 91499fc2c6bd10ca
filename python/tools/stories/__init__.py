"""Short English stories from a grammar: the training text of the embedded model.

``tale(seed, split)`` gives one story with the facts that it states, ``document(seed, split)`` one training document
(a plain story, or a conversation in the World chat format). The same seed gives the same text on every machine.

A tale's *skeleton* is its plot with who and what is in it. Skeletons are split once and for all by a hash: about one in
``HELD_OUT_SHARE`` belongs to the split "heldout" and never occurs in "train", so held-out stories are combinations that
the model has not seen.
"""

from __future__ import annotations

import random
import zlib

from . import plots_deeds, plots_meetings, plots_things
from .chat import conversation
from .grammar import title_case
from .tale import Tale

PLOTS = (
    plots_things.lost_thing, plots_things.lost_thing, plots_things.broken_thing, plots_things.birthday_gift, plots_things.quarrel,
    plots_things.trade_chain, plots_things.magic_wish, plots_things.soup_for_all,
    plots_deeds.afraid, plots_deeds.race, plots_deeds.rescue, plots_deeds.seed, plots_deeds.learn_skill,
    plots_meetings.new_friend, plots_meetings.sick_friend, plots_meetings.share_food, plots_meetings.strange_noise,
    plots_meetings.journey, plots_meetings.storm,
)
SPLITS = ("train", "heldout")
HELD_OUT_SHARE = 40
PRESENT_SHARE = 0.12


def split_of(key: tuple) -> str:
    """The split that a skeleton belongs to."""
    return "heldout" if zlib.crc32(repr(key).encode()) % HELD_OUT_SHARE == 0 else "train"


def _tale(rng: random.Random, split: str) -> Tale:
    while True:
        told = Tale(rng, present=rng.random() < PRESENT_SHARE)
        rng.choice(PLOTS)(told)
        if split_of(told.key) == split:
            return told


def _rng(seed: int, split: str) -> random.Random:
    if split not in SPLITS:
        raise ValueError(f"stories: split must be one of {SPLITS}, got {split!r}")
    return random.Random(f"{split}:{seed}")


def tale(seed: int, split: str = "train") -> Tale:
    """One story of the split: ``.text``, ``.title``, ``.facts``, ``.requests``, ``.key``."""
    return _tale(_rng(seed, split), split)


def document(seed: int, split: str = "train", plain: float = 0.45) -> str:
    """One training document; with probability ``plain`` a story alone, otherwise a conversation."""
    rng = _rng(seed, split)
    told = _tale(rng, split)
    if rng.random() < plain:
        return f"{title_case(told.render(told.title))}\n{told.text}" if rng.random() < 0.25 else told.text
    tales = [told]
    if rng.random() < 0.1:
        tales.append(_tale(rng, split))
    return conversation(tales, rng)
