"""Captioned scenes: one or two digits on a pattern, and the sentence that describes them.

A sentence is "a 7 on stripes, left of a 3": the larger digit, the pattern of the ground, and the
place of the larger digit next to the smaller one. It is "a 7 on stripes" if there is one digit.
Scenes whose sentence would be ambiguous are drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from axiom_bench.embedded import scenes
from axiom_bench.embedded.scenes import SIDE, Figure, Scene, tight_box

Grid = NDArray[np.float64]
# Each pattern maps the distances along and across a direction, (96, 96) in periods, to values from
# -1 to 1.
PATTERNS: dict[str, Callable[[Grid, Grid], Grid]] = {
    "stripes": lambda along, across: np.sin(2 * np.pi * along),
    "checks": lambda along, across: np.sin(2 * np.pi * along) * np.sin(2 * np.pi * across),
    "rings": lambda along, across: np.sin(2 * np.pi * np.hypot(along, across)),
}
CLOUDS = "clouds"
GROUND_WORDS = (*PATTERNS, CLOUDS)
PERIODS = (9, 18)  # pixels
CONTRASTS = (0.2, 0.35)  # differences between the darkest and the brightest part of a pattern
ALONE = 0.2  # the share of attempts with one digit
SMALL = (22, 30)  # the height of the cells of the smaller digit, in pixels
MARGIN = 10  # the least difference, in pixels, between the horizontal and the vertical distance
# The words of all sentences. A digit's number is its class.
WORDS = (
    *map(str, range(10)),
    "a",
    "on",
    *GROUND_WORDS,
    ",",
    "left",
    "right",
    "above",
    "below",
    "of",
)


@dataclass(frozen=True)
class CaptionedKind(scenes.Kind):
    """A kind of scenes that one sentence describes without ambiguity."""

    def rng(self, split: str, *numbers: int) -> np.random.Generator:
        """Return the random numbers of a scene, which differ between splits.

        So a ground of one split is in no other split. See `Kind.rng`.
        """
        return scenes.rng_of_split(self, split, *numbers)

    def ground(
        self, rng: np.random.Generator, split: str, brightness: float | None = None
    ) -> tuple[Grid, float]:
        """Draw a pattern, tinted. See `Kind.ground`.

        The first random number chooses the pattern, so that `draw` can find its word.
        """
        name = _ground_word(rng)
        if brightness is None:
            brightness = rng.uniform(0.2, 0.8)
        colour = brightness + rng.uniform(-0.12, 0.12, 3)
        contrast = rng.uniform(*CONTRASTS) * rng.uniform(0.7, 1, 3)
        return colour + _pattern(rng, name)[..., None] / 2 * contrast, brightness

    def glyphs(self, rng: np.random.Generator, split: str) -> list[tuple[NDArray[np.bool_], int]]:
        """Draw a digit, and usually a smaller one. See `Kind.glyphs`."""
        count = 1 if rng.uniform() < ALONE else 2
        chosen = rng.permutation(10)[:count]
        return [
            (scenes.draw_glyph(rng, split, digit, heights), int(digit))
            for digit, heights in zip(chosen, (self.heights, SMALL), strict=False)
        ]

    def accepts(self, figures: Sequence[Figure]) -> bool:
        """Return False for a scene whose sentence would be ambiguous.

        In a scene with two digits, the taller one is also the one with more pixels, and lies
        clearly beside, above or below the other one.
        """
        if len(figures) < 2:
            return len(figures) == 1
        large, small = figures
        across, down = _step(large, small)
        return large.rank < small.rank and abs(abs(across) - abs(down)) >= MARGIN


CAPTIONED = CaptionedKind(
    "captions",
    most=2,
    heights=(38, 46),
    least=1,
    places=24,
    spawn_key=(6,),
    classes=WORDS[:10],
)


@dataclass(frozen=True)
class CaptionedScene(Scene):
    """A scene with its sentence."""

    caption: tuple[int, ...]
    """The words, as positions in WORDS."""


def draw(split: str, seed: int, number: int) -> CaptionedScene:
    """Draw a scene with its sentence.

    Args:
        split: One of SPLITS.
        seed: The seed.
        number: The number of the scene.
    """
    drawing = scenes.make_drawing(split, seed, number, CAPTIONED)
    ground_word = _ground_word(CAPTIONED.rng(split, seed, number))
    large, *others = drawing.figures
    words = ["a", str(large.digit), "on", ground_word]
    for small in others:
        words += [",", *_relation(large, small), "a", str(small.digit)]
    objects = tuple((figure.digit, tight_box(figure.drawn)) for figure in drawing.figures)
    return CaptionedScene(
        image=drawing.image(),
        mask=drawing.mask,
        objects=objects,
        caption=tuple(WORDS.index(word) for word in words),
    )


def _ground_word(rng: np.random.Generator) -> str:
    """Draw the pattern of a ground. It is the first random number of each scene."""
    return GROUND_WORDS[rng.integers(len(GROUND_WORDS))]


def _pattern(rng: np.random.Generator, name: str) -> Grid:
    """Draw a pattern, (96, 96) from -1 to 1."""
    if name == CLOUDS:
        clouds = gaussian_filter(rng.normal(size=(SIDE, SIDE)), rng.uniform(2, 5), mode="wrap")
        scaled: Grid = clouds / np.abs(clouds).max()
        return scaled
    y, x = np.indices((SIDE, SIDE)) - rng.uniform(0, SIDE, 2)[:, None, None]
    angle = rng.uniform(0, np.pi)
    period = rng.uniform(*PERIODS)
    along = (np.cos(angle) * x + np.sin(angle) * y) / period
    across = (np.cos(angle) * y - np.sin(angle) * x) / period
    return PATTERNS[name](along, across)


def _step(large: Figure, small: Figure) -> tuple[float, float]:
    """Return the way from the smaller digit's middle to the larger one's, right and down."""
    x0, y0, x1, y1 = tight_box(large.drawn)
    other_x0, other_y0, other_x1, other_y1 = tight_box(small.drawn)
    return (x0 + x1 - other_x0 - other_x1) / 2, (y0 + y1 - other_y0 - other_y1) / 2


def _relation(large: Figure, small: Figure) -> tuple[str, ...]:
    """Return the words for the place of the larger digit, such as ("left", "of")."""
    across, down = _step(large, small)
    if abs(across) > abs(down):
        return ("left" if across < 0 else "right", "of")
    return ("above" if down < 0 else "below",)
