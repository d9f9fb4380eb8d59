"""Do two halves of the images put the methods in one order, and how many images would?"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from axiom_bench.judging.values import ImageValues, centres, halves, signs
from axiom_bench.statistics.bootstrap import Floats

Signs = NDArray[np.float32]
SPLITS = 200
TAU = 0.9  # that two sets of images should agree by


class Halves(NamedTuple):
    """half: images in a half. tau: Kendall's tau-b between the orders of the methods by two halves of the images, the
    mean over SPLITS splits. needed: images for tau >= TAU, see `images_needed`."""

    half: int
    tau: float
    needed: float

    @property
    def is_extrapolated(self) -> bool:
        """Whether more images are needed than a half has, so that the halves can't show it."""
        return not self.needed <= self.half


def agreement_of_halves(values: ImageValues) -> Halves:
    """Of the images on which all of the methods have values; NaN for fewer than two images, and where the methods can't
    be told apart in a half."""
    own = values.values[np.isfinite(values.values).all(axis=1)]
    half = len(own) // 2
    if not half:
        return Halves(0, math.nan, math.nan)
    first, second = (signs(centres(own, part, values.lead)) for part in halves(len(own), SPLITS))
    taus = tau_b(first, second)
    tau = float(taus[np.isfinite(taus)].mean()) if np.isfinite(taus).any() else math.nan
    return Halves(half, tau, images_needed(tau, half))


def tau_b(first: Signs, second: Signs) -> Floats:
    """Kendall's tau-b from the signs of all pairs, (..., pairs) -> (...): the difference between concordant and
    discordant pairs over the geometric mean of how many pairs each order doesn't tie. NaN where an order ties all."""
    with np.errstate(invalid="ignore", divide="ignore"):
        untied = np.abs(first).sum(axis=-1, dtype=np.float64) * np.abs(second).sum(axis=-1, dtype=np.float64)
        return np.asarray((first * second).sum(axis=-1, dtype=np.float64) / np.sqrt(untied))


def images_needed(tau: float, images: int, goal: float = TAU) -> float:
    """How many images two sets need to agree by `goal`, where two sets of `images` agree by tau.

    r = sin(pi tau / 2) is the correlation that belongs to tau where the methods' differences are normal (Greiner's
    relation). By Spearman and Brown r / (1 - r) is proportional to the number of images, so

        n = images * R / (1 - R) * (1 - r) / r,  R = sin(pi goal / 2).

    infinite where tau isn't above 0, NaN where tau is.
    """
    if math.isnan(tau):
        return math.nan
    if tau <= 0:
        return math.inf
    wanted, seen = math.sin(math.pi * goal / 2), math.sin(math.pi * min(tau, 1.0) / 2)
    return images * wanted / (1 - wanted) * (1 - seen) / seen


def predicted_tau(tau: float, images: int, others: float) -> float:
    """Kendall's tau between two sets of `others` images, by the same formula, where two sets of `images` have tau."""
    seen = math.sin(math.pi * min(max(tau, 0.0), 1.0) / 2)
    if seen >= 1:
        return 1.0
    odds = seen / (1 - seen) * others / images
    return 2 / math.pi * math.asin(odds / (1 + odds))
