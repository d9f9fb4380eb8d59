"""The gate's hard images: what makes a value undefined, negative or easy to get wrong, an image or two of each kind.

They are PNG files in memory, so that decoding, resizing and cropping are part of what the gate sees.
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

Pixels = NDArray[np.uint8]
Mask = NDArray[np.int64]
SEED = 7  # of what is drawn
SCENES = (4, 10, 12, 13, 14, 15, 19, 20, 21, 25)  # of one or two digits, so that few labels are explained
BACKGROUND, NO_VERDICT = -1, -2  # of a mask, as data/batch.py has them
LANDSCAPE, PORTRAIT = (112, 144), (150, 108)  # height and width of stored scenes
ORIENTATION = 0x0112  # EXIF's tag; 6 asks a viewer to turn the picture
FRAMED, MARGINS = (100, 120), (2, 12)  # of stored patch images: the centre crop of 96 x 96 is the image as drawn


@dataclass(frozen=True)
class HardImage:
    """content: of a PNG file. label: the image's class, None for none. objects: (class, box), box = x0, y0, x1, y1 in
    stored pixels, x1 and y1 exclusive. mask: (h, w), the class of each pixel, BACKGROUND or NO_VERDICT, or None."""

    content: bytes
    label: int | None
    objects: tuple[tuple[int, scenes.Box], ...] = ()
    mask: Mask | None = None


@cache
def hard_scenes() -> Mapping[str, HardImage]:
    """Scenes whose classes are digits, by a name that says what is hard; ascending."""
    plain = {number: _stretched(scenes.draw("evaluation", SEED, number), LANDSCAPE) for number in SCENES}
    portrait = _stretched(scenes.draw("evaluation", SEED, 22), PORTRAIT)
    absent = (plain[13].label + 1) % len(scenes.CLASSES)
    first, other = plain[15].objects
    same = np.where(plain[15].mask == other[0], first[0], plain[15].mask)
    band = plain[21].mask.copy()
    band[:, : LANDSCAPE[1] // 2][band[:, : LANDSCAPE[1] // 2] < 0] = NO_VERDICT
    grey = Image.fromarray(plain[20].image).convert("L")
    images = {
        "landscape": _file(plain[19]),
        "portrait": _file(portrait),
        "grey": _file(plain[20], grey),
        "sixteen_bits": _file(plain[10], Image.fromarray(plain[10].image[..., 1].astype(np.uint16) * 256)),
        "transparent": _file(plain[12], _with_a_hole(plain[12].image)),
        "turned_by_exif": _file(plain[4], orientation=6),
        "another_label": replace(_file(plain[13]), label=absent),
        "no_annotation": replace(_file(plain[25]), objects=(), mask=None),
        "no_verdict": replace(_file(plain[21]), mask=band),
        "two_of_a_class": replace(_file(plain[15]), objects=(first, (first[0], other[1])), mask=same),
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
    grey = np.full_like(drawn[0].image, 128)
    yellow = next(patch for patch in drawn[1].patches if patch.colour == "yellow")
    unbalanced = drawn[1].image.copy()
    unbalanced[yellow.box[1], yellow.box[0]] = 128  # blue - yellow sums to a thousandth of its terms
    images = {
        "blue_cancels_yellow": _framed(drawn[0]),
        "blue_nearly_cancels_yellow": _framed(replace(drawn[1], image=unbalanced)),
        "other_class": _framed(_only(drawn[2], grey, "cyan")),
        "green_alone": _framed(_only(drawn[2], grey, "green")),
        "score_zero": _framed(patches.PatchImage(grey, np.full(grey.shape[:2], BACKGROUND), ())),
    }
    return _numbered(images)


CONTENTS: Mapping[str, Callable[[], Mapping[str, HardImage]]] = MappingProxyType(
    {"scenes": hard_scenes, "patches": hard_patches}
)
CLASSES = MappingProxyType({"scenes": scenes.CLASSES, "patches": patches.CLASSES})


def _numbered(images: Mapping[str, HardImage]) -> Mapping[str, HardImage]:
    return MappingProxyType({f"{number:02d}_{name}": image for number, (name, image) in enumerate(images.items())})


def _stretched(scene: scenes.Scene, size: tuple[int, int]) -> scenes.Scene:
    """A scene at another height and width, each pixel the nearest one's."""
    rows, columns = (np.arange(side) * scenes.SIDE // side for side in size)
    mask = scene.mask[rows[:, None], columns]
    objects = tuple((digit, scenes.tight_box(mask == digit)) for digit, _ in scene.objects)
    return scenes.Scene(scene.image[rows[:, None], columns], mask, objects)


def _file(scene: scenes.Scene, image: Image.Image | None = None, orientation: int | None = None) -> HardImage:
    """A scene as a file. image: what is stored in its picture's place. orientation: in its EXIF."""
    picture = Image.fromarray(scene.image) if image is None else image
    return HardImage(_png(picture, orientation), scene.label, scene.objects, scene.mask)


def _with_a_hole(image: Pixels) -> Image.Image:
    """With a transparent square, whose pixels have other colours than a reader may show."""
    opacity = np.full(image.shape[:2], 255, np.uint8)
    opacity[20:60, 30:80] = 0
    return Image.fromarray(np.dstack([image, opacity]))


def _beside(scene: scenes.Scene) -> HardImage:
    """A scene at the left edge of a wide picture, of which a centre crop sees nothing."""
    height, width = scene.mask.shape
    grey = np.full((height, 3 * width, 3), 128, np.uint8)
    mask = np.full((height, 3 * width), BACKGROUND)
    grey[:, :width], mask[:, :width] = scene.image, scene.mask
    return HardImage(_png(Image.fromarray(grey)), scene.label, scene.objects, mask)


def _only(drawn: patches.PatchImage, ground: Pixels, colour: str) -> patches.PatchImage:
    """The patches of one colour on another ground."""
    kept = tuple(patch for patch in drawn.patches if patch.colour == colour)
    image, mask = ground.copy(), np.full(ground.shape[:2], BACKGROUND)
    for patch in kept:
        image[patch.place], mask[patch.place] = patches.COLOURS[colour], patch.label
    return patches.PatchImage(image, mask, kept)


def _framed(drawn: patches.PatchImage) -> HardImage:
    """Patches inside a frame that the centre crop takes away."""
    top, left = MARGINS
    place = (slice(top, top + patches.SIDE), slice(left, left + patches.SIDE))
    image, mask = np.full((*FRAMED, 3), 128, np.uint8), np.full(FRAMED, BACKGROUND)
    image[place], mask[place] = drawn.image, drawn.mask
    objects = [(label, (x0 + left, y0 + top, x1 + left, y1 + top)) for label, (x0, y0, x1, y1) in drawn.objects]
    return HardImage(_png(Image.fromarray(image)), 0, tuple(objects), mask)


def _png(image: Image.Image, orientation: int | None = None) -> bytes:
    """The file's content; PNG loses nothing, so that its pixels don't depend on a version of a library."""
    buffer, exif = BytesIO(), Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    image.save(buffer, "PNG", exif=exif)
    return buffer.getvalue()
