"""A bug that is put into a copy of the code, to see who notices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One exact replacement.

    file: relative to the repository. old: occurs exactly once in it. why: what a user would get. unseen: why no run of
    a gate can show it, empty where the gate has to. tests: what is run where the gate doesn't see it, in place of the
    tests of the file's room.
    """

    name: str
    file: str
    old: str
    new: str
    why: str
    unseen: str = ""
    tests: tuple[str, ...] = ()
