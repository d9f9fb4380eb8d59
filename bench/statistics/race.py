"""A race of methods and layers by one metric, which stops early and is wrong in at most 5 %.

A race has looks at growing numbers of images, fixed beforehand, and divides its level equally among
them (Bonferroni). A look asks two questions of the images so far, with half of its level each:

- Can a candidate still be the best? It is dropped if some other candidate is better. The test of
  a candidate has one hypothesis, that no candidate is better, so only one of these tests, that of
  the best candidate, can drop it wrongly (Hsu's comparisons with the best, Ann. Statist. 1984).
- Is a candidate better than every control? For each control, the candidates are one family. A
  candidate that wrongly counts as better than all controls also counts so for the best control. So
  only the family of the best control can be wrong, and several controls need no correction.

All tests flip the signs of an image's differences, of all pairs together, and compare the largest
statistic (Westfall and Young 1993). They assume that differences are symmetric about their mean,
but no normal distribution. Candidates that agree cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from axiom_bench.statistics.bootstrap import Floats

LEAST_IMAGES = 8  # fewer images can't show a difference at the level of a look
FIRST_LOOK = 16  # images of the first look, if there are at least twice as many
MOST_EXACT = 12  # images up to which all signs are tried
DRAWN_SIGNS = 4_095  # random signs for more images
QUESTIONS = 2  # of a look, which share its level
KEPT_PATTERNS = 8  # tables of signs that stay in memory, about 1 MB each for 40 images


class Candidate(NamedTuple):
    """A method at a layer."""

    layer: str
    method: str


def looks(images: int) -> tuple[int, ...]:
    """Return the numbers of images of a race's looks: all of them, half of them, a quarter, ...

    Args:
        images: The number of images at hand.

    >>> looks(12), looks(40), looks(100)
    ((12,), (20, 40), (25, 50, 100))
    """
    sizes = [images]
    while sizes[0] >= 2 * FIRST_LOOK:
        sizes.insert(0, (sizes[0] + 1) // 2)
    return tuple(sizes)


@dataclass(frozen=True)
class Defeat:
    """The end of a candidate that was dropped.

    Attributes:
        better: The candidate that is most clearly better.
        difference: The mean by which it is better, at least 0.
        p: The p value of the hypothesis that no candidate is better.
        images: The number of images.
    """

    better: Candidate
    difference: float
    p: float
    images: int


@dataclass(frozen=True)
class Race:
    """A race by one metric, as far as it has been run.

    Attributes:
        candidates: The candidates, which are no controls.
        controls: The controls.
        level: The largest probability that the best candidate is dropped, or that a candidate
            counts as better than an equally good control.
        num_looks: The number of looks that share the level.
        dropped: {candidate: its defeat} of those that can't be the best.
        above: {candidate: the controls that it is better than}.
    """

    candidates: tuple[Candidate, ...]
    controls: tuple[Candidate, ...]
    level: float
    num_looks: int
    dropped: Mapping[Candidate, Defeat] = field(default_factory=dict)
    above: Mapping[Candidate, frozenset[Candidate]] = field(default_factory=dict)

    @property
    def contenders(self) -> tuple[Candidate, ...]:
        """The candidates that may be the best."""
        return tuple(name for name in self.candidates if name not in self.dropped)

    @property
    def above_all_controls(self) -> tuple[Candidate, ...]:
        """The contenders that are better than every control."""
        controls = frozenset(self.controls)
        return tuple(
            name for name in self.contenders if controls <= self.above.get(name, frozenset())
        )

    @property
    def beaten_by_all_contenders(self) -> frozenset[Candidate]:
        """The controls that every contender is better than, which no further look needs."""
        beaten = frozenset(self.controls)
        for name in self.contenders:
            beaten &= self.above.get(name, frozenset())
        return beaten

    @property
    def level_of_look(self) -> float:
        """The level of each question of a look."""
        return self.level / (QUESTIONS * self.num_looks)

    @property
    def is_decided(self) -> bool:
        """True if one contender is left, and it is better than every control."""
        return len(self.contenders) == 1 == len(self.above_all_controls)

    def look(self, gains: Mapping[Candidate, Floats], seed: int = 0) -> Race:
        """Return the race after a look.

        Args:
            gains: {candidate or control: the values of the same images, (images,)}. A higher value
                is better.
            seed: The seed of the random signs.
        """
        names = [name for name in self.contenders if name in gains]
        values = np.stack([gains[name] for name in names], axis=1)
        signs = sign_patterns(len(values), seed)
        dropped = dict(self.dropped)
        for column, name in enumerate(names):
            better, p = p_of_best(values, column, signs)
            if p <= self.level_of_look:
                difference = float(np.mean(values[:, better] - values[:, column]))
                dropped[name] = Defeat(names[better], difference, p, len(values))
        above = dict(self.above)
        controls = [name for name in self.controls if name in gains]
        if controls and names:
            control_values = np.stack([gains[name] for name in controls], axis=1)
            p_values = p_above(values, control_values, signs)
            for name, row in zip(names, p_values, strict=True):
                beaten = {
                    control
                    for control, p in zip(controls, row, strict=True)
                    if p <= self.level_of_look
                }
                above[name] = above.get(name, frozenset()) | beaten
        return replace(self, dropped=dropped, above=above)


@lru_cache(KEPT_PATTERNS)
def sign_patterns(images: int, seed: int = 0) -> Floats:
    """Return signs of images, (patterns, images): all patterns, or random ones for many images.

    The first pattern has no negative sign. The array is shared by all callers and can't be written.

    Args:
        images: The number of images.
        seed: The seed of random patterns.
    """
    if images <= MOST_EXACT:
        bits = np.arange(2**images)[:, None] >> np.arange(images)
        patterns = np.where(bits & 1, -1.0, 1.0)
    else:
        generator = np.random.default_rng(seed)
        drawn = generator.choice([-1.0, 1.0], size=(DRAWN_SIGNS, images))
        patterns = np.concatenate([np.ones((1, images)), drawn])
    patterns.flags.writeable = False
    return patterns


def p_of_best(values: Floats, column: int, signs: Floats) -> tuple[int, float]:
    """Return the p value of the hypothesis that no candidate is better than one.

    Args:
        values: (images, candidates); a higher value is better.
        column: The candidate.
        signs: See `sign_patterns`.

    Returns:
        The candidate that is most clearly better, and the p value, 1 without another candidate.
    """
    statistics = _statistics(values - values[:, [column]], signs)
    statistics[column] = -np.inf
    largest = statistics.max(axis=0)
    better = int(statistics[:, 0].argmax())
    if not np.isfinite(largest[0]):
        return column, 1.0
    return better, float(_share_as_large(largest, largest[:1])[0])


def p_above(values: Floats, controls: Floats, signs: Floats) -> Floats:
    """Return the p values of the hypotheses that candidates aren't better than controls.

    Args:
        values: (images, candidates); a higher value is better.
        controls: (images, controls).
        signs: See `sign_patterns`.

    Returns:
        (candidates, controls), adjusted for the candidates by the largest statistic.
    """
    p_values = []
    for control in controls.T:
        statistics = _statistics(values - control[:, None], signs)
        p_values.append(_share_as_large(statistics.max(axis=0), statistics[:, 0]))
    return np.stack(p_values, axis=1)


def _statistics(differences: Floats, signs: Floats) -> Floats:
    """Return sum(s d) / sqrt(sum(d^2)) of each pair and sign pattern, (pairs, patterns).

    The denominator is the same for all signs, so pairs on different scales count alike. It is 0
    for equal candidates, whose statistic is 0.
    """
    scale = np.sqrt(np.square(differences).sum(axis=0))
    return np.asarray((differences / np.where(scale > 0, scale, 1.0)).T @ signs.T)


def _share_as_large(largest: Floats, observed: Floats) -> Floats:
    """Return the share of patterns whose largest statistic is at least each observed one."""
    limits = observed - 1e-9  # sums of the same numbers in another order differ by rounding
    return np.asarray((largest >= limits[:, None]).mean(axis=1))
