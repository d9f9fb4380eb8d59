"""Sixty grounds for the scenes: grey 128 x 128 fields of five kinds, split before anything is drawn on them."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

SIDE = 128
COUNT = 60
_SEED = 20  # of the bank itself: a scene's own seed never changes a texture


def numbers(split: str) -> tuple[int, ...]:
    """The numbers of the textures of one split: every fourth is for evaluation, so each kind is in every split.

    Of the others, "train", every sixth is for "validation" and the rest is "fit".
    """
    evaluation = set(range(3, COUNT, 4))
    validation = set(range(2, COUNT, 8))
    train = set(range(COUNT)) - evaluation
    parts = {"train": train, "fit": train - validation, "validation": validation, "evaluation": evaluation}
    return tuple(sorted(parts[split]))


@cache
def bank(split: str) -> NDArray[np.float32]:
    """All textures of one split: (n, 128, 128) in [0, 1], in steps of 1/255 so that no machine's last bit shows."""
    return np.stack([np.round(_texture(number) * 255) / 255 for number in numbers(split)]).astype(np.float32)


def _texture(number: int) -> NDArray[np.float64]:
    rng = np.random.default_rng([_SEED, number])
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(float)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 24)
    along = 2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / period
    across = 2 * np.pi * (np.cos(angle) * y - np.sin(angle) * x) / rng.uniform(6, 24)
    centre = rng.uniform(0, SIDE, 2)
    smooth = gaussian_filter(rng.normal(size=(SIDE, SIDE)), rng.uniform(1, 6), mode="wrap")
    fields = (
        smooth,  # clouds
        np.sin(along),  # stripes
        np.sin(along) * np.sin(across),  # checks
        np.sin(2 * np.pi * np.hypot(x - centre[0], y - centre[1]) / period),  # rings
        np.sin(along + 3 * smooth / smooth.std()),  # marble
    )
    field = fields[number % len(fields)]
    return (field - field.min()) / (field.max() - field.min())
