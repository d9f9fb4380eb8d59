"""Signals and volumes of one channel: one to three motifs or solids of different classes in structured noise.

They are drawn as the scenes are, with exact boxes and masks. Each split has random numbers of its own, so that nothing
training saw is ever evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from axiom_bench.embedded.scenes import SPLITS, Kind, step_from

Array = NDArray[np.float64]
TURN = 2 * np.pi
# Of the place in a motif, from 0 to 1, and its number of periods; from -1 to 1.
MOTIFS: dict[str, Callable[[Array, float], Array]] = {
    "sine": lambda t, periods: np.sin(TURN * periods * t),
    "square": lambda t, periods: np.where(periods * t % 1 < 0.5, 1.0, -1.0),
    "sawtooth": lambda t, periods: 2 * (periods * t % 1) - 1,
    "chirp": lambda t, periods: np.sin(TURN * periods * t * (0.3 + t)),
    "bell": lambda t, periods: np.sin(np.pi * t) ** 2,
}
# Of the distances of each voxel from the three planes through the centre, (3, side, side, side), and the side, both
# doubled so that they are whole; and the side of a solid of about as many voxels as a cube of side 1.
SOLIDS: dict[str, tuple[Callable[[NDArray[np.int64], int], NDArray[np.bool_]], float]] = {
    "ball": (lambda d, side: (d**2).sum(0) <= side**2, 1.25),
    "cube": (lambda d, side: d.max(0) <= side, 1.0),
    "octahedron": (lambda d, side: d.sum(0) <= side, 1.8),
    "cross": (lambda d, side: (3 * d <= side).sum(0) >= 2, 1.55),
    "shell": (lambda d, side: ((d**2).sum(0) <= side**2) & (25 * (d**2).sum(0) > 9 * side**2), 1.35),
}


@dataclass(frozen=True)
class Shapes(Kind):
    """Signals, or volumes, of the sides `space`. heights: of a motif, or of a cube, in samples or voxels."""

    def rng(self, split: str, *numbers: int) -> np.random.Generator:
        """The random numbers of a split's drawing: of its own."""
        key = (*self.spawn_key, SPLITS.index(split))
        return np.random.default_rng(np.random.SeedSequence(numbers, spawn_key=key))

    def ground(self, rng: np.random.Generator, split: str, brightness: float | None = None) -> tuple[Array, float]:
        """Clouds and a grating: ((*space, 1), its mean brightness)."""
        brightness = rng.uniform(0.35, 0.65) if brightness is None else brightness
        clouds = gaussian_filter(rng.normal(size=self.space), rng.uniform(1, 4), mode="wrap")
        direction = rng.normal(size=len(self.space))
        along = np.tensordot(direction / np.abs(direction).max(), np.indices(self.space), 1)
        grating = np.sin(TURN * (along / rng.uniform(6, 24) + rng.uniform()))
        field = clouds / np.abs(clouds).max() * rng.uniform(0.05, 0.15) + grating * rng.uniform(0, 0.06)
        return brightness + field[..., None], brightness

    def glyphs(self, rng: np.random.Generator, split: str) -> list[tuple[NDArray[np.bool_], int]]:
        """Shapes of different classes: (their samples, or voxels, in their box, class)."""
        labels = rng.permutation(len(self.classes))[: rng.integers(self.least, self.most + 1)]
        heights = {int(label): int(rng.integers(*self.heights)) for label in labels}
        if len(self.space) == 1:
            return [(np.ones(height, bool), label) for label, height in heights.items()]
        return [(self.solid(height, self.classes[label]), label) for label, height in heights.items()]

    def solid(self, height: int, name: str) -> NDArray[np.bool_]:
        """The voxels of a solid in its box: (side, side, side)."""
        solid, factor = SOLIDS[name]
        side = round(height * factor)
        return solid(np.abs(2 * np.indices((side,) * 3) + 1 - side), side)

    def ink(self, rng: np.random.Generator, brightness: float, glyph: NDArray[np.bool_], label: int) -> Array:
        """A motif around the ground's brightness, either way round; one brightness of a solid: (n, 1)."""
        if len(self.space) > 1:
            return np.full((int(glyph.sum()), 1), step_from(rng, brightness, 0.2, 0.35))
        place = (np.arange(len(glyph)) + 0.5) / len(glyph)
        motif = MOTIFS[self.classes[label]](place, rng.uniform(2.5, 3.5))
        height = rng.uniform(0.2, 0.35) * rng.choice([-1, 1])
        return (brightness + height * motif[:: rng.choice([-1, 1])])[:, None]


SIGNALS = Shapes("signals", 3, (24, 57), 1, 24, (2,), (192,), tuple(MOTIFS))
VOLUMES = Shapes("volumes", 3, (5, 8), 1, 24, (3,), (24, 24, 24), tuple(SOLIDS))
KINDS = {"signals": SIGNALS, "volumes": VOLUMES}
