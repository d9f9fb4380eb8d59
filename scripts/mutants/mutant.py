"""A bug that is put into a copy of the code, to see who notices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One exact replacement.

    seen_by: who saw it first: "gate" (the hard rows), "quick" (the default run) or "tests". file: relative to the
    repository. why: what a user would get. old: occurs exactly once in the file. unseen: of one that tests see, why no
    run of a gate can show it. tests: what is run where the gate doesn't see it, in place of the tests of the file's
    room.
    """

    name: str
    seen_by: str
    file: str
    why: str
    old: str
    new: str
    unseen: str = ""
    tests: tuple[str, ...] = ()
