"""The gate's hard images: what makes a value undefined, negative or easy to get wrong, an image or
two of each kind.

They are PNG files in memory, so that decoding, resizing and cropping are part of what the gate
sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.embedded import patches, scenes
from axiom_bench.embedded.planted import GRIDS

Mask = NDArray[np.int64]
SEED = 7  # of what is drawn
SCENES = (
    4,
    10,
    12,
    13,
    14,
    15,
    19,
    20,
    21,
    25,
)  # of one or two digits, so that few labels are explained
BACKGROUND, NO_VERDICT = -1, -2  # of a mask, as data/base.py has them
LANDSCAPE, PORTRAIT = (112, 144), (150, 108)  # height and width of stored scenes
ORIENTATION = 0x0112  # EXIF's tag; 6 asks a viewer to turn the picture
FRAMED, MARGINS = (
    (100, 120),
    (2, 12),
)  # of stored patch images: the centre crop of 96 x 96 is the image as drawn
GREY, FRAME = (
    128,
    12,
)  # around patches: the brightness, and the most pixels that an image shows of it on a side
BLUE, RED = (0, 0, 249), ((182, 0, 0), (183, 0, 0))  # red in a sixth of the rows


@dataclass(frozen=True)
class HardImage:
    """content: of a PNG file. label: the image's class, None for none. objects: (class, box), box =
    x0, y0, x1, y1 in stored pixels, x1 and y1 exclusive. mask: (h, w), the class of each pixel,
    BACKGROUND or NO_VERDICT, or None.
    """

    content: bytes
    label: int | None
    objects: tuple[tuple[int, scenes.Box], ...] = ()
    mask: Mask | None = None


@cache
def hard_scenes() -> Mapping[str, HardImage]:
    """Scenes whose classes are digits, by a name that says what is hard; ascending."""
    plain = {
        number: _stretched(scenes.draw("evaluation", SEED, number), LANDSCAPE) for number in SCENES
    }
    portrait = _stretched(scenes.draw("evaluation", SEED, 22), PORTRAIT)
    absent = (plain[13].label + 1) % len(scenes.CLASSES)
    first, other = plain[15].objects
    same = np.where(plain[15].mask == other[0], first[0], plain[15].mask)
    band = plain[21].mask.copy()
    band[:, : LANDSCAPE[1] // 2][band[:, : LANDSCAPE[1] // 2] < 0] = NO_VERDICT
    grey = Image.fromarray(plain[20].image).convert("L")
    opacity = np.full(LANDSCAPE, 255, np.uint8)
    opacity[20:60, 30:80] = 0  # whose pixels have other colours than a reader may show
    images = {
        "landscape": _file(plain[19]),
        "portrait": _file(portrait),
        "grey": _file(plain[20], grey),
        "sixteen_bits": _file(
            plain[10], Image.fromarray(plain[10].image[..., 1].astype(np.uint16) * 256)
        ),
        "transparent": _file(plain[12], Image.fromarray(np.dstack([plain[12].image, opacity]))),
        "turned_by_exif": _file(plain[4], orientation=6),
        "another_label": replace(_file(plain[13]), label=absent),
        "no_annotation": replace(_file(plain[25]), objects=(), mask=None),
        "no_verdict": replace(_file(plain[21]), mask=band),
        "two_of_a_class": replace(
            _file(plain[15]), objects=(first, (first[0], other[1])), mask=same
        ),
        "cut_away": _beside(plain[14]),
        "one_colour": HardImage(_png(Image.new("RGB", LANDSCAPE[::-1], (96, 96, 96))), 3),
        "no_class": replace(_file(plain[19]), label=None, objects=(), mask=None),
        "truncated": replace(_file(portrait), content=_file(portrait).content[:2000]),
    }
    return _numbered(images)


@cache
def hard_patches() -> Mapping[str, HardImage]:
    """Images for the planted networks, likewise. Their classes are "evidence" and "other"."""
    drawn = [patches.draw("evaluation", SEED, number) for number in range(3)]
    yellow = next(patch for patch in drawn[1].patches if patch.colour == "yellow")
    unbalanced = drawn[1].image.copy()
    unbalanced[yellow.box[1], yellow.box[0]] = (
        128  # blue - yellow sums to a thousandth of its terms
    )
    images = {
        "blue_cancels_yellow": _framed(drawn[0]),
        "blue_nearly_cancels_yellow": _framed(replace(drawn[1], image=unbalanced)),
        "other_class": _framed(_only(drawn[2], "cyan")),
        "green_alone": _framed(_only(drawn[2], "green")),
        "score_zero": _framed(_only(drawn[2])),
    }
    return _numbered(images)


@cache
def hard_crops() -> Mapping[str, HardImage]:
    """Images for the planted networks, likewise. Along a side of 99 or 101 pixels a centre crop of
    96 leaves an odd margin, whose half torchvision rounds to an even number; beyond a side of 91 it
    goes.
    """
    drawn = [patches.draw("evaluation", SEED, number) for number in (3, 4)]
    images = {
        "margins_of_3": _framed(_at_the_threshold(drawn[0]), (91, 99), (-2, 2)),
        "margins_of_5": _framed(_only(drawn[0], "green", "blue"), (101, 91), (2, -2)),
        "smaller_than_the_crop": _framed(drawn[1], (91, 91), (-2, -2)),
    }
    return _numbered(images)


CONTENTS: Mapping[str, Callable[[], Mapping[str, HardImage]]] = MappingProxyType(
    {"scenes": hard_scenes, "patches": hard_patches, "crops": hard_crops}
)
CLASSES = MappingProxyType(
    {"scenes": scenes.CLASSES, "patches": patches.CLASSES, "crops": patches.CLASSES}
)


def _numbered(images: Mapping[str, HardImage]) -> Mapping[str, HardImage]:
    return MappingProxyType(
        {f"{number:02d}_{name}": image for number, (name, image) in enumerate(images.items())}
    )


def _stretched(scene: scenes.Scene, size: tuple[int, int]) -> scenes.Scene:
    """A scene at another height and width, each pixel the nearest one's."""
    rows, columns = (np.arange(side) * scenes.SIDE // side for side in size)
    mask = scene.mask[rows[:, None], columns]
    objects = tuple((digit, scenes.tight_box(mask == digit)) for digit, _ in scene.objects)
    return scenes.Scene(scene.image[rows[:, None], columns], mask, objects)


def _file(
    scene: scenes.Scene, image: Image.Image | None = None, orientation: int | None = None
) -> HardImage:
    """A scene as a file. image: what is stored in its picture's place. orientation: in its EXIF."""
    picture = Image.fromarray(scene.image) if image is None else image
    return HardImage(_png(picture, orientation), scene.label, scene.objects, scene.mask)


def _beside(scene: scenes.Scene) -> HardImage:
    """A scene at the left edge of a wide picture, of which a centre crop sees nothing."""
    height, width = scene.mask.shape
    grey = np.full((height, 3 * width, 3), 128, np.uint8)
    mask = np.full((height, 3 * width), BACKGROUND)
    grey[:, :width], mask[:, :width] = scene.image, scene.mask
    return HardImage(_png(Image.fromarray(grey)), scene.label, scene.objects, mask)


def _only(drawn: patches.PatchImage, *colours: str) -> patches.PatchImage:
    """The patches of these colours on plain grey; the channels of the others are dead."""
    kept = tuple(patch for patch in drawn.patches if patch.colour in colours)
    image, mask = np.full_like(drawn.image, GREY), np.full(drawn.mask.shape, BACKGROUND)
    for patch in kept:
        image[patch.place], mask[patch.place] = patches.COLOURS[patch.colour], patch.label
    return patches.PatchImage(image, mask, kept)


def _at_the_threshold(drawn: patches.PatchImage) -> patches.PatchImage:
    """Blue and red alone. planted_additive counts blue 3 times as much: in a map of its weights red
    has (109 + 1/3) / (3 x 243) = 0.149977 of the maximum, nothing at 15 %; in half precision it has
    0.150024.
    """
    shown = _only(drawn, "blue", "red")
    for patch in shown.patches:
        shown.image[patch.place] = BLUE if patch.colour == "blue" else RED[0]
        if patch.colour == "red":
            shown.image[patch.place][:: GRIDS[2].cell] = RED[1]
    return shown


def _framed(
    drawn: patches.PatchImage, size: tuple[int, int] = FRAMED, margins: tuple[int, int] = MARGINS
) -> HardImage:
    """Patches inside a frame that the centre crop takes away. size: (height, width). margins: above
    and to the left of what was drawn, which is cut there where they are negative.
    """
    (height, width), (top, left) = size, margins
    place = (slice(FRAME - top, FRAME - top + height), slice(FRAME - left, FRAME - left + width))
    image = np.pad(drawn.image, ((FRAME, FRAME), (FRAME, FRAME), (0, 0)), constant_values=GREY)[
        place
    ]
    mask = np.pad(drawn.mask, FRAME, constant_values=BACKGROUND)[place]
    seen = (width, height, width, height)
    boxes = (
        np.clip(np.add(box, (left, top, left, top)), 0, seen).tolist() for _, box in drawn.objects
    )
    objects = tuple(
        (label, tuple(box)) for (label, _), box in zip(drawn.objects, boxes, strict=True)
    )
    return HardImage(_png(Image.fromarray(image)), 0, objects, mask)


def _png(image: Image.Image, orientation: int | None = None) -> bytes:
    """The file's content; PNG loses nothing, so that its pixels don't depend on a version of a
    library.
    """
    buffer, exif = BytesIO(), Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    image.save(buffer, "PNG", exif=exif)
    return buffer.getvalue()
