"""Signals and volumes of one channel: one to three motifs or solids of different classes in
structured noise.

And pictures of one shape in such noise, in colours. They are drawn as the scenes are, with exact
boxes and masks. Each split has random numbers of its own, so that nothing training saw is ever
evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

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
# Of the distances of each voxel from the three planes through the centre, (3, side, side, side),
# and the side, both doubled so that they are whole; and the side of a solid of about as many voxels
# as a cube of side 1.
SOLIDS: dict[str, tuple[Callable[[NDArray[np.int64], int], NDArray[np.bool_]], float]] = {
    "ball": (lambda d, side: (d**2).sum(0) <= side**2, 1.25),
    "cube": (lambda d, side: d.max(0) <= side, 1.0),
    "octahedron": (lambda d, side: d.sum(0) <= side, 1.8),
    "cross": (lambda d, side: (3 * d <= side).sum(0) >= 2, 1.55),
    "shell": (
        lambda d, side: ((d**2).sum(0) <= side**2) & (25 * (d**2).sum(0) > 9 * side**2),
        1.35,
    ),
}


@dataclass(frozen=True)
class Shapes(Kind):
    """Signals, or volumes, of the sides `space`. heights: of a motif, or of a cube, in samples or
    voxels.
    """

    def rng(self, split: str, *numbers: int) -> np.random.Generator:
        """The random numbers of a split's drawing: of its own."""
        key = (*self.spawn_key, SPLITS.index(split))
        return np.random.default_rng(np.random.SeedSequence(numbers, spawn_key=key))

    def ground(
        self, rng: np.random.Generator, split: str, brightness: float | None = None
    ) -> tuple[Array, float]:
        """Clouds and a grating: ((*space, 1), its mean brightness)."""
        brightness = rng.uniform(0.35, 0.65) if brightness is None else brightness
        clouds = gaussian_filter(rng.normal(size=self.space), rng.uniform(1, 4), mode="wrap")
        direction = rng.normal(size=len(self.space))
        along = np.tensordot(direction / np.abs(direction).max(), np.indices(self.space), 1)
        grating = np.sin(TURN * (along / rng.uniform(6, 24) + rng.uniform()))
        field = clouds / np.abs(clouds).max() * rng.uniform(0.05, 0.15) + grating * rng.uniform(
            0, 0.06
        )
        return brightness + field[..., None], brightness

    def glyphs(self, rng: np.random.Generator, split: str) -> list[tuple[NDArray[np.bool_], int]]:
        """Shapes of different classes: (their samples, or voxels, in their box, class)."""
        labels = rng.permutation(len(self.classes))[: rng.integers(self.least, self.most + 1)]
        heights = {int(label): int(rng.integers(*self.heights)) for label in labels}
        if len(self.space) == 1:
            return [(np.ones(height, bool), label) for label, height in heights.items()]
        return [
            (self.solid(height, self.classes[label]), label) for label, height in heights.items()
        ]

    def solid(self, height: int, name: str) -> NDArray[np.bool_]:
        """The voxels of a solid in its box: (side, side, side)."""
        solid, factor = SOLIDS[name]
        side = round(height * factor)
        return solid(np.abs(2 * np.indices((side,) * 3) + 1 - side), side)

    def ink(
        self, rng: np.random.Generator, brightness: float, glyph: NDArray[np.bool_], label: int
    ) -> Array:
        """A motif around the ground's brightness, either way round; one brightness of a solid: (n,
        1).
        """
        if len(self.space) > 1:
            return np.full((int(glyph.sum()), 1), step_from(rng, brightness, 0.2, 0.35))
        place = (np.arange(len(glyph)) + 0.5) / len(glyph)
        motif = MOTIFS[self.classes[label]](place, rng.uniform(2.5, 3.5))
        height = rng.uniform(0.2, 0.35) * rng.choice([-1, 1])
        return (brightness + height * motif[:: rng.choice([-1, 1])])[:, None]


SIGNALS = Shapes("signals", 3, (24, 57), 1, 24, (2,), (192,), tuple(MOTIFS))
VOLUMES = Shapes("volumes", 3, (5, 8), 1, 24, (3,), (24, 24, 24), tuple(SOLIDS))
KINDS = {"signals": SIGNALS, "volumes": VOLUMES}

# The layout of RefineCAM's synthetic set (domeniconi2026refine; data/util.py and
# data/synth_dataset.py of its code).
CORNERS = {
    "square": (-1 - 1j, 1 - 1j, 1 + 1j, -1 + 1j),
    "triangle": (-1j, 1 + 1j, -1 + 1j),
}  # x + iy, of side 2
PLANE = ("circle", "square", "triangle", "circle frame", "square frame", "triangle frame")


@dataclass(frozen=True)
class PlaneShapes(Shapes):
    """A circle, square or triangle in one colour, filled or the frame alone. sides: ranges of
    pixels, ends exclusive, each as likely.
    """

    sides: tuple[tuple[int, int], ...] = ()

    def ground(
        self, rng: np.random.Generator, split: str, brightness: float | None = None
    ) -> tuple[Array, float]:
        """That of signals and volumes, tinted: ((*space, 3), its mean brightness)."""
        field, brightness = super().ground(rng, split, brightness)
        return field + rng.uniform(-0.12, 0.12, 3), brightness

    def glyphs(self, rng: np.random.Generator, split: str) -> list[tuple[NDArray[np.bool_], int]]:
        """One shape, turned, where the layout has it: (its pixels in the whole image, class)."""
        label = int(rng.integers(len(self.classes)))
        least, end = self.sides[rng.integers(len(self.sides))]
        start, stop = (least, -least) if least > self.space[0] // 4 else (2 * least, -2 * end)
        place = rng.integers(start, self.space[0] + stop, 2)
        return [
            (
                self.plane(
                    self.classes[label], int(rng.integers(least, end)), place, rng.uniform(0, TURN)
                ),
                label,
            )
        ]

    def plane(
        self, name: str, side: int, place: NDArray[np.int64], angle: float
    ) -> NDArray[np.bool_]:
        """The pixels of a shape: its centre, x and y, is at `place`. angle: in radians, from x to
        y.
        """
        x, y = np.indices(self.space)[::-1] - place[:, None, None]
        half, (shape, _, frame) = side // 2, name.partition(" ")
        if shape == "circle":
            beyond = (
                np.hypot(x, y) - half
            )  # without the angle, whose rounding shows where a pixel is on the outline
            from_outline, inside = np.abs(beyond), beyond <= 0
        else:
            corners, point = half * np.array(CORNERS[shape]), (x + 1j * y) * np.exp(-1j * angle)
            edges = (np.roll(corners, -1) - corners)[:, None, None]
            along = (
                point - corners[:, None, None]
            ) / edges  # in edges: 0 to 1, and to the right of them > 0
            from_outline = np.abs((along - np.clip(along.real, 0, 1)) * edges).min(0)
            inside = (along.imag >= 0).all(0)
        # OpenCV's line of a thickness, a fifth of the side, covers what is within its half, rounded
        # up, of the outline.
        return from_outline <= (side // 5 + 1) // 2 if frame else inside

    def ink(
        self, rng: np.random.Generator, brightness: float, glyph: NDArray[np.bool_], label: int
    ) -> Array:
        """Any colour: (3,)."""
        return rng.integers(256, size=3) / 255


ALL_SIDES = PlaneShapes(
    "synthetic", 1, (0, 0), 1, 1, (5, 0), (224, 224), PLANE, sides=((80, 100), (40, 50), (20, 25))
)
SYNTHETIC = {
    "all": ALL_SIDES,
    "large": replace(ALL_SIDES, spawn_key=(5, 1), sides=((80, 100),)),
    "small": replace(ALL_SIDES, spawn_key=(5, 2), sides=((15, 16),)),
}
