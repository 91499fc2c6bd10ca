"""Bugs to seed into csrc/metal, each with the case of cases.py that must notice it: a test of the tests.

A mutant is a text of the source and what to read instead. If a source has changed so that the text is not there any more, the
test says so: give the mutant a new text, or replace it by a bug that the new code could have.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    name: str
    case: str  # of cases.py
    old: str
    new: str
    check: bool = False  # noticed by the checker, not (or not surely) by a wrong result
    file: str = ""  # of csrc/metal for host code; of a kernel, the library to change, by default the first that has the text
