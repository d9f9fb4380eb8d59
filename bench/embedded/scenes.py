"""Scenes: handwritten digits of different classes on a textured ground, with exact boxes and masks.

A scene has one to three digits, or four to six smaller ones, or three to five of which several are
of one class. It depends only on its kind, split, seed and number. The digits are scikit-learn's
bundled ones (1,797 of 8 x 8 pixels). Digits and textures are split before drawing, so that nothing
seen in training is ever evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

SIDE = 96
TEXTURE_SIDE = 128
TEXTURES = 60  # the number of textures
TEXTURE_SEED = 20  # a scene's own seed never changes a texture
SPLITS = ("train", "fit", "validation", "evaluation")  # fit and validation are parts of train
CLASSES = tuple(f"digit {digit}" for digit in range(10))
INK = 0.45  # a pixel is drawn if the enlarged digit exceeds this share of its maximum there
GROUNDS = 3  # other grounds of a scene
VISIBLE = 0.3  # least difference in brightness, from 0 to 1, of each object from another ground
TRIES = 24  # attempts to draw such a ground

Box = tuple[int, ...]  # starts, then ends, which are exclusive; the last axis of space first


@dataclass(frozen=True)
class Kind:
    """A kind of scenes: how many objects they have, how large, and of which classes."""

    name: str
    most: int
    """The largest number of objects."""
    heights: tuple[int, int]
    """The range of the height of a digit's 8 x 8 cells in pixels, before the cut to what is
    drawn.
    """
    least: int
    """The least number of objects. A scene with fewer is drawn again."""
    places: int
    """Attempts to place a digit without touching another. After these the scene has one object
    less.
    """
    spawn_key: tuple[int, ...] = ()
    """The key of the random numbers, so that kinds are different scenes."""
    space: tuple[int, ...] = (SIDE, SIDE)
    """The sides of the image."""
    classes: tuple[str, ...] = CLASSES
    """The classes of the objects."""
    shared: int = 0
    """If objects share classes, the largest number of classes in a scene, otherwise 0.

    No two boxes overlap then, so that within its box an object's pixels are all those of its class.
    """

    def rng(self, split: str, *numbers: int) -> np.random.Generator:
        """Return the random numbers of a scene of this kind.

        All splits have the same numbers for digits, since their digits differ.

        Args:
            split: One of SPLITS.
            *numbers: The seed, and the number of the scene and of its version.
        """
        return np.random.default_rng(np.random.SeedSequence(numbers, spawn_key=self.spawn_key))

    def ground(
        self, rng: np.random.Generator, split: str, brightness: float | None = None
    ) -> tuple[NDArray[np.float64], float]:
        """Draw a window of a texture, turned, tinted and lit from one side.

        Args:
            rng: The random numbers.
            split: One of SPLITS.
            brightness: The mean brightness; `None` draws one.

        Returns:
            The ground (96, 96, 3), and its mean brightness.
        """
        window = np.rot90(texture_window(rng, split), int(rng.integers(4)))
        if brightness is None:
            brightness = rng.uniform(0.15, 0.85)
        colour = brightness + rng.uniform(-0.12, 0.12, 3)
        contrast = rng.uniform(0.05, 0.3) * rng.uniform(0.6, 1, 3)
        light = np.linspace(-1, 1, SIDE)[:, None] * rng.uniform(-0.08, 0.08)
        return colour + (window[..., None] - 0.5) * contrast + light[..., None], brightness

    def glyphs(self, rng: np.random.Generator, split: str) -> list[tuple[NDArray[np.bool_], int]]:
        """Draw digits, enlarged and cut to their drawn pixels.

        Args:
            rng: The random numbers.
            split: One of SPLITS.

        Returns:
            The pixels (h, w) and the class of each digit.
        """
        chosen = rng.permutation(10)[: rng.integers(self.least, self.most + 1)]
        if self.shared:
            chosen = rng.choice(chosen[: rng.integers(2, self.shared + 1)], len(chosen))
        return [(draw_glyph(rng, split, digit, self.heights), int(digit)) for digit in chosen]

    def accepts(self, figures: Sequence[Figure]) -> bool:
        """Return False for objects that are drawn again.

        Args:
            figures: The objects that found a place.
        """
        return len(figures) >= self.least

    def ink(
        self, rng: np.random.Generator, brightness: float, glyph: NDArray[np.bool_], label: int
    ) -> NDArray[np.float64]:
        """Draw a colour (3,) that is clearly darker or brighter than the ground.

        Args:
            rng: The random numbers.
            brightness: The mean brightness of the ground.
            glyph: The pixels of the object.
            label: The class of the object.
        """
        return np.asarray(
            contrasting_brightness(rng, brightness, 0.35, 0.6) + rng.uniform(-0.12, 0.12, 3)
        )


FEW = Kind("few", most=3, heights=(28, 46), least=1, places=24)
MANY = Kind("many", most=6, heights=(22, 40), least=4, places=40, spawn_key=(1,))
REPEATED = Kind("repeated", most=5, heights=(20, 46), least=3, places=40, spawn_key=(4,), shared=3)
KINDS = {kind.name: kind for kind in (FEW, MANY, REPEATED)}


@dataclass(frozen=True)
class Scene:
    """A drawn scene. Its objects have different classes, unless the kind shares them, and no pixel
    belongs to two objects.
    """

    image: NDArray[np.uint8]
    """(96, 96, 3) RGB, or (*space, 1)."""
    mask: NDArray[np.int64]
    """(*space), the class of each pixel, -1 for the ground."""
    objects: tuple[tuple[int, Box], ...]
    """(class, box) of each object, those with most drawn pixels first.

    The box is x0, y0, x1, y1, with x1 and y1 exclusive, tight around the drawn pixels.
    """

    @property
    def label(self) -> int:
        """The class of the largest object."""
        return self.objects[0][0]


@dataclass(frozen=True)
class Figure:
    """A digit or another object in a scene."""

    digit: int
    """The class."""
    drawn: NDArray[np.bool_]
    """(*space), True at the object's pixels."""
    ink: NDArray[np.float64]
    """The colour of the pixels (3,), or of each of n pixels (n, 1)."""

    @property
    def rank(self) -> tuple[int, int]:
        """The key that sorts objects, largest first: the number of pixels, then the class."""
        return -int(self.drawn.sum()), self.digit


@dataclass(frozen=True)
class Drawing:
    """The parts of a scene, from which it can be drawn again with one of them changed."""

    ground: NDArray[np.float64]
    """(96, 96, 3), or (*space, 1)."""
    brightness: float
    """The mean brightness of the ground."""
    figures: tuple[Figure, ...]
    """The objects in the order in which they are drawn. No pixel belongs to two."""
    noise: NDArray[np.float64]
    """(*space, 1)."""

    def image(self, without: int | None = None) -> NDArray[np.uint8]:
        """Draw the scene, with the shape of `ground`.

        Args:
            without: The number of a figure to leave out. Each pixel that isn't the figure's stays
                the same bit by bit.
        """
        canvas = self.ground.copy()
        for number, figure in enumerate(self.figures):
            if number != without:
                canvas[figure.drawn] = figure.ink
        values = np.clip(canvas + self.noise, 0, 1)
        return (values * 255).round().astype(np.uint8)

    @property
    def mask(self) -> NDArray[np.int64]:
        """The class of each pixel, (*space), -1 for the ground."""
        mask = np.full(self.noise.shape[:-1], -1)
        for figure in self.figures:
            mask[figure.drawn] = figure.digit
        return mask

    def contrast(self, brightness: float) -> float:
        """Return the least difference between a figure's ink and a ground, as drawn.

        Args:
            brightness: The mean brightness of the ground.
        """
        inks = [float(np.clip(figure.ink, 0, 1).mean()) for figure in self.figures]
        return min(abs(ink - brightness) for ink in inks)


@cache
def textures(split: str) -> NDArray[np.float32]:
    """Return the textures of a split, of five kinds: (n, 128, 128) in [0, 1].

    They are in steps of 1/255, so that they don't depend on the last bit of a machine's arithmetic.

    Args:
        split: One of SPLITS.
    """
    fields = [np.round(_texture(number) * 255) / 255 for number in texture_numbers(split)]
    return np.stack(fields).astype(np.float32)


def texture_numbers(split: str) -> tuple[int, ...]:
    """Return the numbers of a split's textures.

    Every fourth texture is for "evaluation", so that each kind is in every split. Of the others,
    "train", every sixth is for "validation" and the rest is "fit".

    Args:
        split: One of SPLITS.
    """
    evaluation = set(range(3, TEXTURES, 4))
    validation = set(range(2, TEXTURES, 8))
    train = set(range(TEXTURES)) - evaluation
    parts = {
        "train": train,
        "fit": train - validation,
        "validation": validation,
        "evaluation": evaluation,
    }
    return tuple(sorted(parts[split]))


def _texture(number: int) -> NDArray[np.float64]:
    """Draw a texture of one of five kinds, (128, 128) in [0, 1]."""
    rng = np.random.default_rng([TEXTURE_SEED, number])
    y, x = np.mgrid[0:TEXTURE_SIDE, 0:TEXTURE_SIDE].astype(float)
    angle = rng.uniform(0, np.pi)
    period = rng.uniform(6, 24)
    along = 2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / period
    across = 2 * np.pi * (np.cos(angle) * y - np.sin(angle) * x) / rng.uniform(6, 24)
    centre = rng.uniform(0, TEXTURE_SIDE, 2)
    clouds = gaussian_filter(rng.normal(size=x.shape), rng.uniform(1, 6), mode="wrap")
    stripes = np.sin(along)
    checks = np.sin(along) * np.sin(across)
    rings = np.sin(2 * np.pi * np.hypot(x - centre[0], y - centre[1]) / period)
    marble = np.sin(along + 3 * clouds / clouds.std())
    fields = (clouds, stripes, checks, rings, marble)
    field = fields[number % len(fields)]
    scaled: NDArray[np.float64] = (field - field.min()) / (field.max() - field.min())
    return scaled


@cache
def digits(split: str) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """Return the digits of a split. A quarter of all is for evaluation, an eighth for validation.

    Args:
        split: One of SPLITS.

    Returns:
        Their numbers in scikit-learn's set, the pictures (n, 8, 8) in 0..240, and the classes.
    """
    images, classes = bundled_digits()
    order = np.random.default_rng(8).permutation(len(classes))
    end_of_fit = len(order) * 5 // 8
    end_of_train = len(order) * 3 // 4
    parts = {
        "train": order[:end_of_train],
        "fit": order[:end_of_fit],
        "validation": order[end_of_fit:end_of_train],
        "evaluation": order[end_of_train:],
    }
    numbers = np.sort(parts[split])
    return numbers, (images[numbers] * 15).astype(np.uint8), classes[numbers]


def bundled_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the images (1797, 8, 8) in 0..16 and the classes, as sklearn.datasets.load_digits
    does.

    They are read from the installed file, because importing scikit-learn takes longer than drawing
    all scenes of a run.
    """
    package = find_spec("sklearn")
    assert package is not None  # a dependency
    assert package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    table = np.loadtxt(file, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def draw(split: str, seed: int, number: int, kind: Kind = FEW) -> Scene:
    """Draw a scene.

    Args:
        split: One of SPLITS.
        seed: The seed.
        number: The number of the scene.
        kind: The kind of the scene.
    """
    drawing = make_drawing(split, seed, number, kind)
    figures = sorted(drawing.figures, key=lambda figure: figure.rank)
    objects = tuple((figure.digit, tight_box(figure.drawn)) for figure in figures)
    return Scene(drawing.image(), drawing.mask, objects)


def make_drawing(split: str, seed: int, number: int, kind: Kind = FEW) -> Drawing:
    """Return the parts of a scene.

    Args:
        split: See `draw`.
        seed: See `draw`.
        number: See `draw`.
        kind: See `draw`.
    """
    rng = kind.rng(split, seed, number)
    ground, brightness = kind.ground(rng, split)
    figures = _figures(rng, split, brightness, kind)
    while not kind.accepts(figures):
        figures = _figures(rng, split, brightness, kind)
    noise = rng.normal(0, 0.02, (*kind.space, 1))
    return Drawing(ground, brightness, figures, noise)


def other_grounds(split: str, seed: int, number: int, kind: Kind = FEW) -> tuple[Drawing, ...]:
    """Return a scene on GROUNDS other grounds, with the same objects, inks and noise.

    A ground is drawn again, at most TRIES times, until each object differs from it by VISIBLE, or
    by as much as from the scene's own ground. After that the ground gets the brightness of the
    scene's own.

    Args:
        split: See `draw`.
        seed: See `draw`.
        number: See `draw`.
        kind: See `draw`.
    """
    drawing = make_drawing(split, seed, number, kind)
    # An object that is hard to see on its own ground may be as hard to see on the others.
    least = min(VISIBLE, drawing.contrast(drawing.brightness))
    drawings = []
    for version in range(GROUNDS):
        rng = kind.rng(split, seed, number, version + 1)
        for _ in range(TRIES):
            ground, brightness = kind.ground(rng, split)
            if drawing.contrast(brightness) >= least:
                break
        else:
            ground, _ = kind.ground(rng, split, drawing.brightness)
        drawings.append(replace(drawing, ground=ground))
    return tuple(drawings)


def rng_of_split(kind: Kind, split: str, *numbers: int) -> np.random.Generator:
    """Return random numbers that differ between splits.

    Args:
        kind: The kind of scenes.
        split: One of SPLITS.
        *numbers: See `Kind.rng`.
    """
    key = (*kind.spawn_key, SPLITS.index(split))
    return np.random.default_rng(np.random.SeedSequence(numbers, spawn_key=key))


def draw_glyph(
    rng: np.random.Generator, split: str, digit: int, heights: tuple[int, int]
) -> NDArray[np.bool_]:
    """Draw a digit, enlarged and cut to its drawn pixels.

    Args:
        rng: The random numbers.
        split: One of SPLITS.
        digit: The class.
        heights: The range of the height of its 8 x 8 cells in pixels.

    Returns:
        True at the digit's pixels, (h, w).
    """
    _, pictures, classes = digits(split)
    picture = pictures[rng.choice(np.flatnonzero(classes == digit))]
    height = int(rng.integers(heights[0], heights[1] + 1))
    width = round(height * rng.uniform(0.85, 1.15))
    enlarged = Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(enlarged)
    drawn = pixels > INK * pixels.max()
    x0, y0, x1, y1 = tight_box(drawn)
    cut: NDArray[np.bool_] = drawn[y0:y1, x0:x1]
    return cut


def texture_window(rng: np.random.Generator, split: str) -> NDArray[np.float32]:
    """Draw a window (96, 96) of a texture.

    Args:
        rng: The random numbers.
        split: One of SPLITS.
    """
    bank = textures(split)
    texture = bank[rng.integers(len(bank))]
    top, left = rng.integers(TEXTURE_SIDE - SIDE + 1, size=2)
    window: NDArray[np.float32] = texture[top : top + SIDE, left : left + SIDE]
    return window


def _figures(
    rng: np.random.Generator, split: str, brightness: float, kind: Kind
) -> tuple[Figure, ...]:
    """Draw the objects that find a place on a ground of this brightness."""
    mask = np.zeros(kind.space, dtype=bool)
    figures = []
    for glyph, label in kind.glyphs(rng, split):
        place = _place(rng, mask, glyph, kind.places)
        if place is None:
            continue
        drawn = np.zeros(kind.space, dtype=bool)
        drawn[place][glyph] = True
        mask[place] |= glyph | bool(kind.shared)
        figures.append(Figure(label, drawn, kind.ink(rng, brightness, glyph, label)))
    return tuple(figures)


def _place(
    rng: np.random.Generator, mask: NDArray[np.bool_], glyph: NDArray[np.bool_], tries: int
) -> tuple[slice, ...] | None:
    """Return a place whose box holds no pixel drawn before, or None if no attempt found room."""
    room = np.subtract(mask.shape, glyph.shape) + 1
    for starts in rng.integers(room, size=(tries, mask.ndim)):
        sides = zip(starts, glyph.shape, strict=True)
        place = tuple(slice(start, start + side) for start, side in sides)
        if not mask[place].any():
            return place
    return None


def contrasting_brightness(
    rng: np.random.Generator, brightness: float, least: float, most: float
) -> float:
    """Draw a brightness that is clearly darker or brighter than another one.

    Args:
        rng: The random numbers.
        brightness: The other brightness.
        least: The least step.
        most: The largest step.
    """
    steps = [side * rng.uniform(least, most) for side in (-1, 1)]
    inside = [step for step in steps if 0 <= brightness + step <= 1]
    if not inside:
        inside = [min(steps, key=lambda step: abs(brightness + step - 0.5))]
    return float(brightness + rng.choice(inside))


def tight_box(drawn: NDArray[np.bool_]) -> Box:
    """Return the smallest box around the True pixels of an image, (x0, y0, x1, y1), or of a signal
    or volume.

    Args:
        drawn: The pixels (*space).
    """
    starts = []
    ends = []
    for axis in reversed(range(drawn.ndim)):
        other_axes = tuple({*range(drawn.ndim)} - {axis})
        positions = np.flatnonzero(drawn.any(other_axes))
        starts.append(int(positions[0]))
        ends.append(int(positions[-1]) + 1)
    return (*starts, *ends)
