"""The looks of a race at growing numbers of images, as the command and `axiom_bench.choose` take
them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from axiom_bench.cli.terminal import say
from axiom_bench.errors import plural
from axiom_bench.statistics.choice import Contest, raced, still_racing
from axiom_bench.statistics.race import Candidate, Race, looks


@dataclass(frozen=True)
class Look:
    """The race after it has looked at some of the images."""

    images: int
    """The number of images so far."""
    contest: Contest
    """Their values."""
    races: Mapping[str, Race]
    """{metric: its race}."""

    @property
    def is_decided(self) -> bool:
        """True if every race has a winner."""
        return all(race.is_decided for race in self.races.values())

    @property
    def still_racing(self) -> frozenset[Candidate]:
        """The candidates and controls that a further look must measure."""
        return still_racing(self.contest, self.races)


def last_look(
    images: int,
    measure: Callable[[int, Look | None], Contest],
    end_time: float = math.inf,
) -> Look:
    """Look at more and more images until the race is decided or has all of them, and return the
    last look.

    Args:
        images: The number of all images, at least 1.
        measure: Returns the values of the first images, whose number it gets with the look before.
        end_time: The time of `time.monotonic` after which no look begins.
    """
    look: Look | None = None
    sizes = looks(images)
    for size in sizes:
        look_start = time.monotonic()
        contest = measure(size, look)
        races = raced(contest, {} if look is None else look.races, len(sizes))
        look = Look(size, contest, races)
        if look.is_decided:
            break
        now = time.monotonic()
        # the next look has twice as many images
        is_too_late = now + 2 * (now - look_start) > end_time
        if is_too_late and size < images:
            images_text = f"{size} of {plural(images, 'image')}"
            say([f"The race ends after {images_text}: the next step would exceed --budget."])
            break
    assert look is not None  # there is at least one image
    return look
