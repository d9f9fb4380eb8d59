"""Scenes: handwritten digits of different classes on a textured ground, with exact boxes and masks.

Of one to three digits, of four to six smaller ones, or of three to five of which several are of one
class. A scene depends on its kind, split, seed and number alone. The digits are scikit-learn's
bundled ones (1,797 of 8 x 8 pixels); digits and textures are split before drawing, so that nothing
training saw is ever evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

SIDE = 96
TEXTURE_SIDE, TEXTURES = 128, 60  # their number
TEXTURE_SEED = 20  # a scene's own seed never changes a texture
SPLITS = (
    "train",
    "fit",
    "validation",
    "evaluation",
)  # fit and validation are the two parts of train
CLASSES = tuple(f"digit {digit}" for digit in range(10))
INK = 0.45  # a pixel is drawn where the enlarged digit exceeds this share of its maximum
GROUNDS = 3  # other grounds of a scene
VISIBLE = 0.3  # by which each object stands out from another ground, of the range of brightness
TRIES = 24  # to draw such a ground

Box = tuple[int, ...]  # starts, then ends, which are exclusive; the last axis of space first


@dataclass(frozen=True)
class Kind:
    """What scenes of a kind have in common.

    most: objects, from 1 or from `least` on. heights: of a digit's 8 x 8 cells in pixels, before
    the cut to what is drawn. least: a scene with fewer objects is drawn again. places: tries to
    place a digit without touching another; after that the scene has one object less. spawn_key: of
    the random numbers, so that kinds are different scenes. space: of the image, its sides. classes:
    of the objects. shared: where objects share classes, of how many classes they are at most; then
    no two boxes overlap, so that within its box an object's pixels are those of its class. 0: each
    is of another class.
    """

    name: str
    most: int
    heights: tuple[int, int]
    least: int
    places: int
    spawn_key: tuple[int, ...] = ()
    space: tuple[int, ...] = (SIDE, SIDE)
    classes: tuple[str, ...] = CLASSES
    shared: int = 0

    def rng(self, split: str, *numbers: int) -> np.random.Generator:
        """The random numbers of a scene of this kind: of digits the same in all splits, which have
        other digits.
        """
        return np.random.default_rng(np.random.SeedSequence(numbers, spawn_key=self.spawn_key))

    def ground(
        self, rng: np.random.Generator, split: str, brightness: float | None = None
    ) -> tuple[NDArray[np.float64], float]:
        """A window of a texture, turned, tinted and lit from one side: ((96, 96, 3), its mean
        brightness).

        brightness: instead of a drawn one.
        """
        window = np.rot90(texture_window(rng, split), int(rng.integers(4)))
        brightness = rng.uniform(0.15, 0.85) if brightness is None else brightness
        colour = brightness + rng.uniform(-0.12, 0.12, 3)
        contrast = rng.uniform(0.05, 0.3) * rng.uniform(0.6, 1, 3)
        light = np.linspace(-1, 1, SIDE)[:, None] * rng.uniform(-0.08, 0.08)
        return colour + (window[..., None] - 0.5) * contrast + light[..., None], brightness

    def glyphs(self, rng: np.random.Generator, split: str) -> list[tuple[NDArray[np.bool_], int]]:
        """Digits, enlarged, cut to their drawn pixels: ((h, w) bool, class)."""
        _, pictures, classes = digits(split)
        glyphs = []
        chosen = rng.permutation(10)[: rng.integers(self.least, self.most + 1)]
        if self.shared:
            chosen = rng.choice(chosen[: rng.integers(2, self.shared + 1)], len(chosen))
        for digit in chosen:
            picture = pictures[rng.choice(np.flatnonzero(classes == digit))]
            height = int(rng.integers(self.heights[0], self.heights[1] + 1))
            width = round(height * rng.uniform(0.85, 1.15))
            large = np.asarray(
                Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)
            )
            drawn = large > INK * large.max()
            x0, y0, x1, y1 = tight_box(drawn)
            glyphs.append((drawn[y0:y1, x0:x1], int(digit)))
        return glyphs

    def ink(
        self, rng: np.random.Generator, brightness: float, glyph: NDArray[np.bool_], label: int
    ) -> NDArray[np.float64]:
        """A colour clearly darker or brighter than the ground: (3,)."""
        return np.asarray(step_from(rng, brightness, 0.35, 0.6) + rng.uniform(-0.12, 0.12, 3))


FEW = Kind("few", most=3, heights=(28, 46), least=1, places=24)
MANY = Kind("many", most=6, heights=(22, 40), least=4, places=40, spawn_key=(1,))
REPEATED = Kind("repeated", most=5, heights=(20, 46), least=3, places=40, spawn_key=(4,), shared=3)
KINDS = {kind.name: kind for kind in (FEW, MANY, REPEATED)}


@dataclass(frozen=True)
class Scene:
    """image: (96, 96, 3) uint8 RGB, or (*space, 1). mask: (*space) int64, the class of each pixel,
    -1 for the ground.

    objects: (class, box) with the largest first, by drawn pixels; box = x0, y0, x1, y1, x1 and y1
    exclusive, tight around the drawn pixels. Classes differ, but where the kind shares them; no
    pixel belongs to two objects.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.int64]
    objects: tuple[tuple[int, Box], ...]

    @property
    def label(self) -> int:
        """The class of the largest object."""
        return self.objects[0][0]


@dataclass(frozen=True)
class Figure:
    """An object, a digit or another. drawn: (*space) bool, its pixels. ink: (3,), their colour, or
    of each, (n, 1).
    """

    digit: int
    drawn: NDArray[np.bool_]
    ink: NDArray[np.float64]

    @property
    def rank(self) -> tuple[int, int]:
        """What objects are sorted by, largest first: the number of its pixels, then its class."""
        return -int(self.drawn.sum()), self.digit


@dataclass(frozen=True)
class Drawing:
    """What a scene is made of, so that it can be drawn again with a part of it changed.

    ground: (96, 96, 3), or (*space, 1). brightness: its mean. figures: in the order in which they
    are drawn; no pixel belongs to two. noise: (*space, 1).
    """

    ground: NDArray[np.float64]
    brightness: float
    figures: tuple[Figure, ...]
    noise: NDArray[np.float64]

    def image(self, without: int | None = None) -> NDArray[np.uint8]:
        """The scene as drawn, as `ground`. without: the number of a figure that is left out; each
        pixel that isn't the figure's is the same, bit by bit.
        """
        canvas = self.ground.copy()
        for number, figure in enumerate(self.figures):
            if number != without:
                canvas[figure.drawn] = figure.ink
        return (np.clip(canvas + self.noise, 0, 1) * 255).round().astype(np.uint8)

    @property
    def mask(self) -> NDArray[np.int64]:
        """(*space), the class of each pixel, -1 for the ground."""
        mask = np.full(self.noise.shape[:-1], -1)
        for figure in self.figures:
            mask[figure.drawn] = figure.digit
        return mask

    def contrast(self, brightness: float) -> float:
        """The least difference between a figure's ink and a ground of this brightness, as drawn."""
        return min(
            abs(float(np.clip(figure.ink, 0, 1).mean()) - brightness) for figure in self.figures
        )


@cache
def textures(split: str) -> NDArray[np.float32]:
    """The grounds of one split, of five kinds: (n, 128, 128) in [0, 1], in steps of 1/255 so that
    no machine's last bit shows.
    """
    fields = [np.round(_texture(number) * 255) / 255 for number in texture_numbers(split)]
    return np.stack(fields).astype(np.float32)


def texture_numbers(split: str) -> tuple[int, ...]:
    """The numbers of a split's textures: every fourth is for evaluation, so each kind is in every
    split.

    Of the others, "train", every sixth is for "validation" and the rest is "fit".
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
    rng = np.random.default_rng([TEXTURE_SEED, number])
    y, x = np.mgrid[0:TEXTURE_SIDE, 0:TEXTURE_SIDE].astype(float)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 24)
    along = 2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / period
    across = 2 * np.pi * (np.cos(angle) * y - np.sin(angle) * x) / rng.uniform(6, 24)
    centre = rng.uniform(0, TEXTURE_SIDE, 2)
    smooth = gaussian_filter(rng.normal(size=x.shape), rng.uniform(1, 6), mode="wrap")
    fields = (
        smooth,  # clouds
        np.sin(along),  # stripes
        np.sin(along) * np.sin(across),  # checks
        np.sin(2 * np.pi * np.hypot(x - centre[0], y - centre[1]) / period),  # rings
        np.sin(along + 3 * smooth / smooth.std()),  # marble
    )
    field = fields[number % len(fields)]
    return (field - field.min()) / (field.max() - field.min())


@cache
def digits(split: str) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """(numbers in scikit-learn's set, pictures (n, 8, 8) in 0..240, classes).

    A quarter is for evaluation, an eighth for validation.
    """
    images, classes = bundled_digits()
    order = np.random.default_rng(8).permutation(len(classes))
    fit, train = len(order) * 5 // 8, len(order) * 3 // 4
    parts = {
        "train": order[:train],
        "fit": order[:fit],
        "validation": order[fit:train],
        "evaluation": order[train:],
    }
    numbers = np.sort(parts[split])
    return numbers, (images[numbers] * 15).astype(np.uint8), classes[numbers]


def bundled_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(images (1797, 8, 8) in 0..16, classes), as sklearn.datasets.load_digits gives them.

    Read from the installed file, because importing scikit-learn takes longer than drawing all
    scenes of a run.
    """
    package = find_spec("sklearn")
    assert package is not None  # a dependency
    assert package.origin is not None
    table = np.loadtxt(
        Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=","
    )
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def draw(split: str, seed: int, number: int, kind: Kind = FEW) -> Scene:
    """The scene of this number. split: one of SPLITS."""
    drawing = drawing_of(split, seed, number, kind)
    figures = sorted(drawing.figures, key=lambda figure: figure.rank)
    return Scene(
        drawing.image(),
        drawing.mask,
        tuple((figure.digit, tight_box(figure.drawn)) for figure in figures),
    )


def drawing_of(split: str, seed: int, number: int, kind: Kind = FEW) -> Drawing:
    """What the scene of this number is made of."""
    rng = kind.rng(split, seed, number)
    ground, brightness = kind.ground(rng, split)
    while len(figures := _figures(rng, split, brightness, kind)) < kind.least:
        pass
    return Drawing(ground, brightness, figures, rng.normal(0, 0.02, (*kind.space, 1)))


def other_grounds(split: str, seed: int, number: int, kind: Kind = FEW) -> tuple[Drawing, ...]:
    """A scene on GROUNDS other grounds: its objects, their inks and the noise are the same.

    A ground is drawn again, TRIES times at most, until each object stands out from it by VISIBLE,
    or by as much as from the scene's own. After that it has the brightness of the scene's own.
    """
    drawing = drawing_of(split, seed, number, kind)
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


def texture_window(rng: np.random.Generator, split: str) -> NDArray[np.float32]:
    """A window of a texture: (96, 96)."""
    bank = textures(split)
    texture = bank[rng.integers(len(bank))]
    top, left = rng.integers(TEXTURE_SIDE - SIDE + 1, size=2)
    return texture[top : top + SIDE, left : left + SIDE]


def _figures(
    rng: np.random.Generator, split: str, brightness: float, kind: Kind
) -> tuple[Figure, ...]:
    """The objects that find a place, as they are drawn on a ground of this brightness."""
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
    """Where the glyph's box holds no pixel drawn before, or None where no try found room."""
    room = np.subtract(mask.shape, glyph.shape) + 1
    for starts in rng.integers(room, size=(tries, mask.ndim)):
        place = tuple(
            slice(start, start + side) for start, side in zip(starts, glyph.shape, strict=True)
        )
        if not mask[place].any():
            return place
    return None


def step_from(rng: np.random.Generator, brightness: float, least: float, most: float) -> float:
    """A brightness clearly darker or brighter than this one, by a step between `least` and
    `most`.
    """
    steps = [side * rng.uniform(least, most) for side in (-1, 1)]
    inside = [step for step in steps if 0 <= brightness + step <= 1]
    return float(
        brightness
        + rng.choice(inside or [max(steps, key=lambda step: -abs(brightness + step - 0.5))])
    )


def tight_box(drawn: NDArray[np.bool_]) -> Box:
    """The smallest box around the True pixels of an image, (x0, y0, x1, y1), or of a signal or
    volume.
    """
    where = [
        np.flatnonzero(drawn.any(tuple({*range(drawn.ndim)} - {axis})))
        for axis in reversed(range(drawn.ndim))
    ]
    return tuple(int(places[0]) for places in where) + tuple(
        int(places[-1]) + 1 for places in where
    )
