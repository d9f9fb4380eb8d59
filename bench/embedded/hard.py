"""The gate's hard images, one or two of each kind: images that make a value undefined, negative or
easy to get wrong.

They are PNG files in memory, so that the gate also checks decoding, resizing and cropping.
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
SEED = 7  # of everything that is drawn
# Scenes of one or two digits, so that few labels are explained.
SCENES = (4, 10, 12, 13, 14, 15, 19, 20, 21, 25)
# values of a mask, as in data/base.py
BACKGROUND = -1
NO_VERDICT = -2
# height and width of stored scenes
LANDSCAPE = (112, 144)
PORTRAIT = (150, 108)
ORIENTATION = 0x0112  # EXIF's tag; 6 asks a viewer to turn the picture
# Size and margins of stored patch images: their centre crop of 96 x 96 is the image as drawn.
FRAMED = (100, 120)
MARGINS = (2, 12)
GREY = 128  # the brightness around patches
FRAME = 12  # the most pixels that an image shows of that grey on a side
BLUE = (0, 0, 249)
RED = ((182, 0, 0), (183, 0, 0))  # the second is the colour of a sixth of the rows


@dataclass(frozen=True)
class HardImage:
    """An image with its annotation."""

    content: bytes
    """The content of a PNG file."""
    label: int | None
    """The image's class, `None` for no class."""
    objects: tuple[tuple[int, scenes.Box], ...] = ()
    """(class, box), box = x0, y0, x1, y1 in stored pixels, with x1 and y1 exclusive."""
    mask: Mask | None = None
    """(h, w), the class of each pixel, BACKGROUND or NO_VERDICT."""


@cache
def hard_scenes() -> Mapping[str, HardImage]:
    """Return scenes whose classes are digits. Their names say what is hard, and are in ascending
    order.
    """
    plain = {}
    for number in SCENES:
        plain[number] = _stretched(scenes.draw("evaluation", SEED, number), LANDSCAPE)
    portrait = _stretched(scenes.draw("evaluation", SEED, 22), PORTRAIT)
    absent = (plain[13].label + 1) % len(scenes.CLASSES)
    first, other = plain[15].objects
    first_class = first[0]
    mask_of_one_class = np.where(plain[15].mask == other[0], first_class, plain[15].mask)
    mask_with_band = plain[21].mask.copy()
    left_half = mask_with_band[:, : LANDSCAPE[1] // 2]  # a view
    left_half[left_half < 0] = NO_VERDICT
    grey = Image.fromarray(plain[20].image).convert("L")
    sixteen_bits = Image.fromarray(plain[10].image[..., 1].astype(np.uint16) * 256)
    opacity = np.full(LANDSCAPE, 255, np.uint8)
    opacity[20:60, 30:80] = 0  # a reader may show other colours for these pixels
    transparent = Image.fromarray(np.dstack([plain[12].image, opacity]))
    one_colour = Image.new("RGB", LANDSCAPE[::-1], (96, 96, 96))
    images = {
        "landscape": _file(plain[19]),
        "portrait": _file(portrait),
        "grey": _file(plain[20], grey),
        "sixteen_bits": _file(plain[10], sixteen_bits),
        "transparent": _file(plain[12], transparent),
        "turned_by_exif": _file(plain[4], orientation=6),
        "another_label": replace(_file(plain[13]), label=absent),
        "no_annotation": replace(_file(plain[25]), objects=(), mask=None),
        "no_verdict": replace(_file(plain[21]), mask=mask_with_band),
        "two_of_a_class": replace(
            _file(plain[15]), objects=(first, (first_class, other[1])), mask=mask_of_one_class
        ),
        "cut_away": _at_left_edge(plain[14]),
        "one_colour": HardImage(_png(one_colour), label=3),
        "no_class": replace(_file(plain[19]), label=None, objects=(), mask=None),
        "truncated": replace(_file(portrait), content=_file(portrait).content[:2000]),
    }
    return _numbered(images)


@cache
def hard_patches() -> Mapping[str, HardImage]:
    """Return images for the planted networks, named in the same way. Their classes are "evidence"
    and "other".
    """
    drawn = [patches.draw("evaluation", SEED, number) for number in range(3)]
    yellow = next(patch for patch in drawn[1].patches if patch.colour == "yellow")
    unbalanced = drawn[1].image.copy()
    # With one grey pixel, blue - yellow sums to a thousandth of its terms.
    unbalanced[yellow.box[1], yellow.box[0]] = 128
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
    """Return images for the planted networks, named in the same way.

    Along a side of 99 or 101 pixels a centre crop of 96 leaves an odd margin, whose half
    torchvision rounds to an even number. A side of 91 pixels is smaller than the crop.
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
    """Return the images with their numbers in front of their names."""
    numbered = {}
    for number, (name, image) in enumerate(images.items()):
        numbered[f"{number:02d}_{name}"] = image
    return MappingProxyType(numbered)


def _stretched(scene: scenes.Scene, size: tuple[int, int]) -> scenes.Scene:
    """Return a scene at another height and width. Each pixel is the nearest one of the scene."""
    rows, columns = (np.arange(side) * scenes.SIDE // side for side in size)
    mask = scene.mask[rows[:, None], columns]
    image = scene.image[rows[:, None], columns]
    objects = tuple((digit, scenes.tight_box(mask == digit)) for digit, _ in scene.objects)
    return scenes.Scene(image, mask, objects)


def _file(
    scene: scenes.Scene, image: Image.Image | None = None, orientation: int | None = None
) -> HardImage:
    """Return a scene as a file, with this picture instead of its own if one is given, and with an
    orientation in its EXIF.
    """
    picture = Image.fromarray(scene.image) if image is None else image
    return HardImage(_png(picture, orientation), scene.label, scene.objects, scene.mask)


def _at_left_edge(scene: scenes.Scene) -> HardImage:
    """Return a scene at the left edge of a wide picture. A centre crop shows nothing of the
    scene.
    """
    height, width = scene.mask.shape
    image = np.full((height, 3 * width, 3), 128, np.uint8)
    image[:, :width] = scene.image
    mask = np.full((height, 3 * width), BACKGROUND)
    mask[:, :width] = scene.mask
    return HardImage(_png(Image.fromarray(image)), scene.label, scene.objects, mask)


def _only(drawn: patches.PatchImage, *colours: str) -> patches.PatchImage:
    """Return the patches of these colours on plain grey. The channels of the other colours are
    dead.
    """
    kept = tuple(patch for patch in drawn.patches if patch.colour in colours)
    image = np.full_like(drawn.image, GREY)
    mask = np.full(drawn.mask.shape, BACKGROUND)
    for patch in kept:
        image[patch.place] = patches.COLOURS[patch.colour]
        mask[patch.place] = patch.label
    return patches.PatchImage(image, mask, kept)


def _at_the_threshold(drawn: patches.PatchImage) -> patches.PatchImage:
    """Return only the blue and the red patches, in colours that put red at the threshold of 15 %.

    planted_additive counts blue 3 times as much as red. In a map of its weights red has (109 + 1/3)
    / (3 x 243) = 0.149977 of the maximum, which isn't part of the map at 15 %. In half precision it
    has 0.150024.
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
    """Return patches inside a frame that the centre crop cuts off, at a size of (height, width).

    The margins are those above and to the left of the drawn image. If they are negative, the image
    is cut there.
    """
    height, width = size
    top, left = margins
    place = (slice(FRAME - top, FRAME - top + height), slice(FRAME - left, FRAME - left + width))
    padded_image = np.pad(
        drawn.image, ((FRAME, FRAME), (FRAME, FRAME), (0, 0)), constant_values=GREY
    )
    padded_mask = np.pad(drawn.mask, FRAME, constant_values=BACKGROUND)
    bounds = (width, height, width, height)
    objects = []
    for label, box in drawn.objects:
        moved_box = np.add(box, (left, top, left, top))
        objects.append((label, tuple(np.clip(moved_box, 0, bounds).tolist())))
    image = Image.fromarray(padded_image[place])
    return HardImage(_png(image), 0, tuple(objects), padded_mask[place])


def _png(image: Image.Image, orientation: int | None = None) -> bytes:
    """Return the content of a PNG file. PNG is lossless, so that its pixels don't depend on the
    version of a library.
    """
    buffer = BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    image.save(buffer, "PNG", exif=exif)
    return buffer.getvalue()
