"""QR codes and other patterns on textured grounds, with the exact pixels of a code's parts.

The codes are real: segno encodes a random text, as CAMBench-QR does (chakraborty2025cambenchqr).
They are drawn turned, in perspective, and with noise. A pixel has the colour of the module that its
centre lies in. Nothing is blurred or covered, so that the parts' pixels are exact. At two to three
pixels to a module, a scanner reads most of the images when they are enlarged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axiom_bench.embedded import scenes
from axiom_bench.embedded.scenes import SIDE, Drawing, Figure, Scene
from axiom_bench.embedded.shapes import Shapes

Array = NDArray[np.float64]
OTHER = 0  # the classes
CODE = 1
CLASSES = ("other pattern", "QR code")
# The parts of a code are the first three figures of its drawing. Another pattern has one part.
FINDERS, TIMING, OTHER_MODULES = range(3)
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 $%*+-./:"  # of QR's alphanumeric mode
QUIET = 4  # modules of the quiet zone, which the standard asks for on each side
SIDES = (70.0, 86.0)  # of a pattern with its quiet zone, in pixels
TURN = 10.0  # degrees to either side
PERSPECTIVE = 0.06  # the most that a corner moves along each axis, as a share of the side
NOISE = 0.03  # the standard deviation of the noise
# The darkness of the greys of random rectangles.
GREYS = (1.0, 0.7, 0.4, 0.2)


@dataclass(frozen=True)
class Ground(Shapes):
    """The grounds of the scenes, with random numbers that differ between splits."""

    def ground(
        self, rng: np.random.Generator, split: str, brightness: float | None = None
    ) -> tuple[Array, float]:
        """Draw a ground of the scenes. See `scenes.Kind.ground`."""
        return scenes.FEW.ground(rng, split, brightness)


KIND = Ground(
    "qr_codes", most=1, heights=(0, 0), least=1, places=1, spawn_key=(6,), classes=CLASSES
)


@dataclass(frozen=True)
class Pattern:
    """A square of modules without its quiet zone."""

    label: int
    """The class."""
    darkness: Array
    """(n, n), from 0 for light modules to 1 for dark ones."""
    parts: NDArray[np.int64]
    """(n, n), the index of each module's part."""


def draw(split: str, seed: int, number: int) -> Scene:
    """Draw an image of one pattern. Every second image, on average, shows a QR code.

    The box and the mask are those of all modules. The quiet zone belongs to the ground.

    Args:
        split: One of scenes.SPLITS.
        seed: The seed.
        number: The number of the image.
    """
    drawing = make_drawing(split, seed, number)
    mask = drawing.mask
    label = drawing.figures[0].digit
    return Scene(drawing.image(), mask, ((label, scenes.tight_box(mask >= 0)),))


def make_drawing(split: str, seed: int, number: int, version: int = 0) -> Drawing:
    """Return the parts of an image, on a light square on a ground.

    A code has three figures: FINDERS, TIMING and OTHER_MODULES. Another pattern has one. The square
    shows the quiet zone, and light modules where a figure is left out.

    Args:
        split: See `draw`.
        seed: See `draw`.
        number: See `draw`.
        version: The number of the ground. Everything else is the same in all versions.
    """
    ground, brightness = KIND.ground(KIND.rng(split, seed, number, version + 1), split)
    rng = KIND.rng(split, seed, number)
    pattern = _draw_pattern(rng)
    side = len(pattern.darkness)
    module = _modules(rng, side + 2 * QUIET) - QUIET
    is_module = np.all((module >= 0) & (module < side), axis=0)
    is_square = np.all((module >= -QUIET) & (module < side + QUIET), axis=0)
    light = rng.uniform(0.8, 1, 3)
    dark = rng.uniform(0, 0.25, 3)
    row, column = module[:, is_module]
    part = np.full((SIDE, SIDE), -1)
    part[is_module] = pattern.parts[row, column]
    colours = np.zeros((SIDE, SIDE, 3))
    colours[is_module] = light + pattern.darkness[row, column, None] * (dark - light)
    figures = []
    for index in range(pattern.parts.max() + 1):
        drawn = part == index
        figures.append(Figure(pattern.label, drawn, colours[drawn]))
    noise = rng.normal(0, NOISE, (SIDE, SIDE, 1))
    ground[is_square] = light
    return Drawing(ground, brightness, tuple(figures), noise)


def _draw_pattern(rng: np.random.Generator) -> Pattern:
    """Draw a QR code, or a pattern that is none."""
    if rng.random() < 0.5:
        return _code(rng)
    paint = PAINTERS[rng.integers(len(PAINTERS))]
    darkness = paint(rng, int(rng.choice([21, 25])))
    return Pattern(OTHER, darkness, np.zeros(darkness.shape, dtype=np.int64))


def _code(rng: np.random.Generator) -> Pattern:
    """Draw a code of version 1 or 2: 6 to 16 characters, with any level of error correction."""
    # Imported only here, since networks of other data need nothing but the classes of this module.
    import segno
    from segno import consts

    finder_types = (consts.TYPE_FINDER_PATTERN_DARK, consts.TYPE_FINDER_PATTERN_LIGHT)
    timing_types = (consts.TYPE_TIMING_DARK, consts.TYPE_TIMING_LIGHT)
    text = "".join(rng.choice(list(CHARACTERS), rng.integers(6, 17)))
    level = str(rng.choice(list("LMQH")))
    code = segno.make_qr(text, error=level, mode="alphanumeric", boost_error=False)
    types = np.array([list(row) for row in code.matrix_iter(border=0, verbose=True)])
    parts = np.full(types.shape, OTHER_MODULES)
    parts[np.isin(types, finder_types)] = FINDERS
    parts[np.isin(types, timing_types)] = TIMING
    return Pattern(CODE, np.array(code.matrix, dtype=float), parts)


def _chequerboard(rng: np.random.Generator, side: int) -> Array:
    """Paint cells of one to four modules."""
    cell = int(rng.integers(1, 5))
    row, column = np.indices((side, side)) // cell
    return ((row + column + rng.integers(2)) % 2).astype(float)


def _rectangles(rng: np.random.Generator, side: int) -> Array:
    """Paint 20 rectangles of random greys, as CAMBench-QR does."""
    darkness = np.zeros((side, side))
    for _ in range(20):
        top, left = rng.integers(0, side - 1, 2)
        height, width = rng.integers(1, 8, 2)
        darkness[top : top + height, left : left + width] = rng.choice(GREYS)
    return darkness


def _random_modules(rng: np.random.Generator, side: int) -> Array:
    """Paint random modules: the texture of a code without its patterns."""
    return rng.integers(0, 2, (side, side)).astype(float)


PAINTERS: tuple[Callable[[np.random.Generator, int], Array], ...] = (
    _chequerboard,
    _rectangles,
    _random_modules,
)


def _modules(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Place a square of count x count modules, and return each pixel's row and column in it.

    The result (2, SIDE, SIDE) has numbers outside of 0 to count - 1 at pixels outside the square.
    """
    side = rng.uniform(*SIDES)
    angle = np.deg2rad(rng.uniform(-TURN, TURN))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * side / 2
    moves = rng.uniform(-PERSPECTIVE, PERSPECTIVE, (4, 2)) * side
    room = (SIDE - side) / 2
    centre = SIDE / 2 + rng.uniform(-room, room, 2)
    placed = (corners + moves) @ turn.T + centre
    to_square = _homography(placed, (corners / side + 0.5) * count)
    y, x = np.indices((SIDE, SIDE)) + 0.5
    u, v, w = np.einsum("ij,jyx->iyx", to_square, np.stack([x, y, np.ones_like(x)]))
    modules: NDArray[np.int64] = np.floor(np.stack([v / w, u / w])).astype(np.int64)
    return modules


def _homography(points: Array, images: Array) -> Array:
    """Return the projective map (3, 3) that takes four points (4, 2) to their images (4, 2)."""
    rows = []
    for (x, y), (u, v) in zip(points, images, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    entries = np.linalg.solve(np.array(rows), images.ravel())
    return np.append(entries, 1).reshape(3, 3)
