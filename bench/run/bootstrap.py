"""Resamples of images, for the standard error of a value of the whole data set.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, algorithm 6.1: a resample draws as many
images as there are, with replacement; the value on a resample is a replicate, and the standard deviation of the
replicates is the value's standard error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESAMPLES = 200  # more are seldom needed for a standard error (ibid., 6.4)


def draws(images: Sequence[str]) -> Floats:
    """How often each of N images is drawn in each resample: (RESAMPLES, N).

    Seeded by the image ids, so that all methods with these images have the same resamples, in any run.
    """
    digest = hashlib.sha256("\n".join(images).encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    drawn = generator.integers(len(images), size=(RESAMPLES, len(images)))
    resample = len(images) * np.arange(RESAMPLES)[:, None]
    counts = np.bincount((drawn + resample).ravel(), minlength=RESAMPLES * len(images))
    return counts.reshape(RESAMPLES, len(images)).astype(np.float64)


def replicates(
    values: Callable[[Floats], Mapping[str, Floats]], images: Sequence[str], rows: Sequence[str]
) -> dict[str, list[float]]:
    """{value name: one replicate for each resample}; none for fewer than two different images among the rows.

    values: how often each row is drawn, (R, n) -> {value name: (R,)}. images: those that are drawn from, sorted, each
    once. rows: the image of each of the n rows: all rows of an image are drawn together. A resample with none of the
    rows has no value and is left out.
    """
    place = {image: index for index, image in enumerate(images)}
    if len(set(rows)) < 2:
        return {}
    counts = draws(images)[:, [place[image] for image in rows]]
    counts = counts[counts.any(axis=1)]
    return {name: np.asarray(points, dtype=np.float64).tolist() for name, points in values(counts).items()}
