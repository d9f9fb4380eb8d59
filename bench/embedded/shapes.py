"""Signals and volumes of one channel, with one to three motifs or solids of different classes in
structured noise, and coloured pictures of one shape in such noise.

They are drawn as the scenes are, with exact boxes and masks. Each split has its own random numbers,
so that nothing seen in training is ever evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from axiom_bench.embedded.scenes import Kind, contrasting_brightness, rng_of_split

Array = NDArray[np.float64]
TURN = 2 * np.pi
# Each motif maps the positions in it, from 0 to 1, and the number of its periods to values from -1
# to 1.
MOTIFS: dict[str, Callable[[Array, float], Array]] = {
    "sine": lambda t, periods: np.sin(TURN * periods * t),
    "square": lambda t, periods: np.where(periods * t % 1 < 0.5, 1.0, -1.0),
    "sawtooth": lambda t, periods: 2 * (periods * t % 1) - 1,
    "chirp": lambda t, periods: np.sin(TURN * periods * t * (0.3 + t)),
    "bell": lambda t, periods: np.sin(np.pi * t) ** 2,
}


def _is_ball(distances: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    is_inside: NDArray[np.bool_] = (distances**2).sum(0) <= side**2
    return is_inside


def _is_cube(distances: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    is_inside: NDArray[np.bool_] = distances.max(0) <= side
    return is_inside


def _is_octahedron(distances: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    is_inside: NDArray[np.bool_] = distances.sum(0) <= side
    return is_inside


def _is_cross(distances: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    is_inside: NDArray[np.bool_] = (3 * distances <= side).sum(0) >= 2
    return is_inside


def _is_shell(distances: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    squared_radius = (distances**2).sum(0)
    is_inside: NDArray[np.bool_] = (squared_radius <= side**2) & (25 * squared_radius > 9 * side**2)
    return is_inside


# For each solid a function that returns its voxels, and the side of a solid with about as many
# voxels as a cube of side 1. The function gets the distances of each voxel from the three planes
# through the centre, (3, side, side, side), and the side. Both are doubled, so that they are whole.
SOLIDS: dict[str, tuple[Callable[[NDArray[np.int64], int], NDArray[np.bool_]], float]] = {
    "ball": (_is_ball, 1.25),
    "cube": (_is_cube, 1.0),
    "octahedron": (_is_octahedron, 1.8),
    "cross": (_is_cross, 1.55),
    "shell": (_is_shell, 1.35),
}


@dataclass(frozen=True)
class Shapes(Kind):
    """A kind of signals or volumes with the sides `space`. Its heights are those of a motif or of a
    cube, in samples or voxels, the end exclusive.
    """

    def rng(self, split: str, *numbers: int) -> np.random.Generator:
        """Return the random numbers of a drawing, which differ between splits. See `Kind.rng`.

        Args:
            split: One of SPLITS.
            *numbers: See `Kind.rng`.
        """
        return rng_of_split(self, split, *numbers)

    def ground(
        self, rng: np.random.Generator, split: str, brightness: float | None = None
    ) -> tuple[Array, float]:
        """Draw clouds and a grating.

        Args:
            rng: The random numbers.
            split: One of SPLITS.
            brightness: The mean brightness; `None` draws one.

        Returns:
            The ground (*space, 1), and its mean brightness.
        """
        if brightness is None:
            brightness = rng.uniform(0.35, 0.65)
        clouds = gaussian_filter(rng.normal(size=self.space), rng.uniform(1, 4), mode="wrap")
        direction = rng.normal(size=len(self.space))
        along = np.tensordot(direction / np.abs(direction).max(), np.indices(self.space), 1)
        grating = np.sin(TURN * (along / rng.uniform(6, 24) + rng.uniform()))
        scaled_clouds = clouds / np.abs(clouds).max() * rng.uniform(0.05, 0.15)
        field = scaled_clouds + grating * rng.uniform(0, 0.06)
        return brightness + field[..., None], brightness

    def glyphs(self, rng: np.random.Generator, split: str) -> list[tuple[NDArray[np.bool_], int]]:
        """Draw shapes of different classes.

        Args:
            rng: The random numbers.
            split: One of SPLITS.

        Returns:
            The samples or voxels of each shape in its box, and its class.
        """
        labels = rng.permutation(len(self.classes))[: rng.integers(self.least, self.most + 1)]
        heights = {int(label): int(rng.integers(*self.heights)) for label in labels}
        if len(self.space) == 1:
            return [(np.ones(height, bool), label) for label, height in heights.items()]
        glyphs = []
        for label, height in heights.items():
            glyphs.append((self.solid(height, self.classes[label]), label))
        return glyphs

    def solid(self, height: int, name: str) -> NDArray[np.bool_]:
        """Return the voxels of a solid in its box, (side, side, side).

        Args:
            height: The side of a cube with about as many voxels.
            name: A name of SOLIDS.
        """
        find_voxels, factor = SOLIDS[name]
        side = round(height * factor)
        doubled_distances = np.abs(2 * np.indices((side,) * 3) + 1 - side)
        return find_voxels(doubled_distances, side)

    def ink(
        self, rng: np.random.Generator, brightness: float, glyph: NDArray[np.bool_], label: int
    ) -> Array:
        """Draw the values (n, 1) of an object: a motif around the ground's brightness, or one
        brightness of a solid.

        A motif may be mirrored in time and in its values.

        Args:
            rng: The random numbers.
            brightness: The mean brightness of the ground.
            glyph: The samples, voxels or pixels of the object.
            label: The class of the object.
        """
        if len(self.space) > 1:
            return np.full(
                (int(glyph.sum()), 1), contrasting_brightness(rng, brightness, 0.2, 0.35)
            )
        positions = (np.arange(len(glyph)) + 0.5) / len(glyph)
        motif = MOTIFS[self.classes[label]](positions, rng.uniform(2.5, 3.5))
        height = rng.uniform(0.2, 0.35) * rng.choice([-1, 1])
        direction = rng.choice([-1, 1])
        signal: NDArray[np.float64] = (brightness + height * motif[::direction])[:, None]
        return signal


SIGNALS = Shapes(
    "signals",
    most=3,
    heights=(24, 57),
    least=1,
    places=24,
    spawn_key=(2,),
    space=(192,),
    classes=tuple(MOTIFS),
)
VOLUMES = Shapes(
    "volumes",
    most=3,
    heights=(5, 8),
    least=1,
    places=24,
    spawn_key=(3,),
    space=(24, 24, 24),
    classes=tuple(SOLIDS),
)
KINDS = {"signals": SIGNALS, "volumes": VOLUMES}

# The layout of RefineCAM's synthetic set (domeniconi2026refine; data/util.py and
# data/synth_dataset.py of its code).
CORNERS = {  # x + iy, for a side of 2
    "square": (-1 - 1j, 1 - 1j, 1 + 1j, -1 + 1j),
    "triangle": (-1j, 1 + 1j, -1 + 1j),
}
PLANE = ("circle", "square", "triangle", "circle frame", "square frame", "triangle frame")


@dataclass(frozen=True)
class PlaneShapes(Shapes):
    """A kind of pictures with a circle, square or triangle in one colour, filled or only the
    frame.
    """

    sides: tuple[tuple[int, int], ...] = ()
    """Ranges of the side in pixels, ends exclusive. Each range is as likely as the others."""

    def ground(
        self, rng: np.random.Generator, split: str, brightness: float | None = None
    ) -> tuple[Array, float]:
        """Draw the ground of signals and volumes, tinted.

        Args:
            rng: The random numbers.
            split: One of SPLITS.
            brightness: The mean brightness; `None` draws one.

        Returns:
            The ground (*space, 3), and its mean brightness.
        """
        field, brightness = super().ground(rng, split, brightness)
        return field + rng.uniform(-0.12, 0.12, 3), brightness

    def glyphs(self, rng: np.random.Generator, split: str) -> list[tuple[NDArray[np.bool_], int]]:
        """Draw one shape, turned, at a position that the layout allows.

        Args:
            rng: The random numbers.
            split: One of SPLITS.

        Returns:
            The shape's pixels in the whole image, and its class.
        """
        label = int(rng.integers(len(self.classes)))
        least, end = self.sides[rng.integers(len(self.sides))]
        start, stop = (least, -least) if least > self.space[0] // 4 else (2 * least, -2 * end)
        centre = rng.integers(start, self.space[0] + stop, 2)
        side = int(rng.integers(least, end))
        pixels = self.plane(self.classes[label], side, centre, rng.uniform(0, TURN))
        return [(pixels, label)]

    def plane(
        self, name: str, side: int, place: NDArray[np.int64], angle: float
    ) -> NDArray[np.bool_]:
        """Return the pixels of a shape in the whole image.

        Args:
            name: A name of PLANE.
            side: The side or diameter in pixels.
            place: The centre, x and y.
            angle: In radians, from x to y.
        """
        x, y = np.indices(self.space)[::-1] - place[:, None, None]
        half = side // 2
        shape, _, frame = name.partition(" ")
        if shape == "circle":
            # The angle isn't used: its rounding would change pixels on the outline.
            beyond = np.hypot(x, y) - half
            from_outline = np.abs(beyond)
            is_inside = beyond <= 0
        else:
            corners = half * np.array(CORNERS[shape])
            points = (x + 1j * y) * np.exp(-1j * angle)
            edges = (np.roll(corners, -1) - corners)[:, None, None]
            # Positions relative to each edge: the real part is 0 to 1 along it, and the imaginary
            # part is positive to its right.
            along = (points - corners[:, None, None]) / edges
            from_outline = np.abs((along - np.clip(along.real, 0, 1)) * edges).min(0)
            is_inside = (along.imag >= 0).all(0)
        # OpenCV's line has a fifth of the side as its thickness. It covers the pixels within half
        # of that, rounded up, of the outline.
        is_drawn: NDArray[np.bool_] = from_outline <= (side // 5 + 1) // 2 if frame else is_inside
        return is_drawn

    def ink(
        self, rng: np.random.Generator, brightness: float, glyph: NDArray[np.bool_], label: int
    ) -> Array:
        """Draw any colour (3,).

        Args:
            rng: The random numbers.
            brightness: The mean brightness of the ground.
            glyph: The samples, voxels or pixels of the object.
            label: The class of the object.
        """
        return rng.integers(256, size=3) / 255


ALL_SIDES = PlaneShapes(
    "synthetic",
    most=1,
    heights=(0, 0),
    least=1,
    places=1,
    spawn_key=(5, 0),
    space=(224, 224),
    classes=PLANE,
    sides=((80, 100), (40, 50), (20, 25)),
)
SYNTHETIC = {
    "all": ALL_SIDES,
    "large": replace(ALL_SIDES, spawn_key=(5, 1), sides=((80, 100),)),
    "small": replace(ALL_SIDES, spawn_key=(5, 2), sides=((15, 16),)),
}
