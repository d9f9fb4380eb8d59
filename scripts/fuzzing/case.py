"""What a kind of damaged input is, and one case of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random


@dataclass(frozen=True)
class Case:
    """One input to make: `random` decides everything, `folder` is empty and the case's own."""

    random: Random
    folder: Path
    made: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Keeps a few words on what was made, for the report of a finding."""
        self.made.append(text)


@dataclass(frozen=True)
class Kind:
    """A family of damaged input. attempt: makes one and gives it to the package; it returns where the package read it
    and its result is right, lets a BenchError through where the package refused it, and raises AssertionError where
    the package came to something wrong without a word. share: how many of 1,000 cases are of this kind."""

    attempt: Callable[[Case], None]
    share: int
