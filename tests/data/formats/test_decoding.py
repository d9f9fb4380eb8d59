"""Decoding of all image modes to RGB, whole or scaled.

An unreadable file raises BadImage and nothing else.
"""

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from axiom_bench.data.base import BadImage, Selected
from axiom_bench.data.formats.decoding import NEARLY_BLACK, as_rgb, open_rgb, open_scaled, sha256
from axiom_bench.data.loading import decode_image
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.job import Job
from axiom_bench.run.keys import Keys
from tests.data.builders import cut, load, save, write_tar, xml

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
GREY = RAMP[..., None]  # becomes three equal channels
SMALL = Preprocessing(40, 32, (0.5,) * 3, (0.25,) * 3)
SCALED = replace(SMALL, scaled_decoding=True)


def image(mode, *pixels):
    """Return an image of one row of pixels."""
    row = Image.new(mode, (len(pixels), 1))
    row.putdata(pixels)
    return row


MODES = {
    "grey": (Image.fromarray(RAMP), np.repeat(GREY, 3, 2)),
    "one bit": (Image.fromarray(RAMP > 100), np.repeat(np.where(GREY > 100, 255, 0), 3, 2)),
    "CMYK": (image("CMYK", (0, 0, 0, 0), (255, 0, 0, 0)), [[[255, 255, 255], [0, 255, 255]]]),
    "transparent is white": (
        image("RGBA", (200, 0, 0, 255), (200, 0, 0, 0), (200, 0, 0, 127)),
        [[[200, 0, 0], [255, 255, 255], [228, 128, 128]]],
    ),
    "palette": (image("P", 0, 1), [[[10, 20, 30], [40, 50, 60]]]),
}
MODES["palette"][0].putpalette([10, 20, 30, 40, 50, 60])


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(mode):
    stored, expected = MODES[mode]
    converted = as_rgb(stored)
    assert converted.mode == "RGB"
    difference = abs(np.asarray(converted).astype(int) - np.array(expected)).max()
    rounding = 1 if mode == "transparent is white" else 0
    assert difference <= rounding


def test_cmyk_is_converted(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    red = np.asarray(open_rgb(tmp_path / "red.jpg", "red")).astype(int)
    assert abs(red - [255, 0, 0]).max() <= 3  # JPEG rounds


# PIL's transpositions that store a picture so that an orientation undoes them
STORED = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}


def store(path, image, orientation):
    """Save an image so that this EXIF orientation shows it upright; return the stored image."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = image
    if STORED[orientation] is not None:
        turned = image.transpose(Image.Transpose(STORED[orientation]))
    path.parent.mkdir(parents=True, exist_ok=True)
    turned.save(path, exif=exif, quality=95)
    return turned


def half(height, width):
    return height // 2, width // 2


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_photograph_is_turned_as_its_exif_says(tmp_path, suffix, orientation):
    """Check eight ways to store one picture.

    Scaled decoding asks for the size that the upright picture needs.
    """
    ramp = np.add.outer(np.arange(80), np.arange(120)).astype(np.uint8)
    image = Image.fromarray(ramp).convert("RGB")
    path = tmp_path / f"photos/a.{suffix}"
    stored = store(path, image, orientation)
    is_upright = orientation == 1

    picture, size, turned = open_scaled(path, "a", None, upright=True)
    assert size == (120, 80)
    assert turned == (None if is_upright else True)
    difference = np.abs(np.asarray(picture).astype(int) - np.asarray(image))
    assert difference.max() <= 4

    small, size, _ = open_scaled(path, "a", half, upright=True)
    assert size == (120, 80)
    assert small.size == ((60, 40) if suffix == "jpg" else (120, 80))

    plain, size, turned = open_scaled(path, "a", None)
    assert plain.size == stored.size
    assert size == stored.size
    assert turned == (None if is_upright else False)

    sample = load("folder", tmp_path / "photos").read(0)
    assert sample.size == (80, 120)
    assert sample.turned == (None if is_upright else True)
    assert np.array_equal(sample.image, picture)


def test_a_tiff_is_turned_once_and_damaged_exif_turns_nothing(tmp_path):
    """Check that Pillow applies a TIFF's orientation, which belongs to the format.

    Pillow applies it also if annotations are in stored pixels.
    """
    image = Image.fromarray(RAMP[:8])
    store(tmp_path / "a.png", image, 6)
    store(tmp_path / "a.tif", image, 6)
    upright_png, _, _ = open_scaled(tmp_path / "a.png", "a", None, True)
    for upright in (True, False):
        picture, _, turned = open_scaled(tmp_path / "a.tif", "a", None, upright)
        assert np.array_equal(picture, upright_png)
        assert turned is None

    image.save(tmp_path / "b.png", exif=b"Exif\0\0II*\0" + bytes([255]) * 40)
    picture, _, turned = open_scaled(tmp_path / "b.png", "b", None, upright=True)
    assert np.array_equal(picture, image.convert("RGB"))
    assert turned is None


@pytest.mark.parametrize("annotated", [False, True])
@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_only_images_without_boxes_are_turned(tmp_path, kind, annotated):
    store(tmp_path / "a.png", Image.new("RGB", (30, 10)), 6)
    content = (tmp_path / "a.png").read_bytes()
    boxes = [[0, 0, 5, 5]] if annotated else []
    if kind == "webdataset":
        note = json.dumps({"label": 0, "boxes": boxes}).encode()
        write_tar(tmp_path / "a.tar", [("a.png", content), ("a.json", note)])
        dataset = load(kind, tmp_path / "a.tar")
    else:
        box_column = pa.array([boxes], pa.list_(pa.list_(pa.float64())))
        table = pa.table({"image": [content], "label": [0], "boxes": box_column})
        pq.write_table(table, tmp_path / "a.parquet")
        dataset = load(kind, tmp_path / "a.parquet", boxes="boxes")

    sample = dataset.read(0)
    assert sample.size == ((30, 10) if annotated else (10, 30))
    assert sample.turned == (not annotated)


SIXTEEN = RAMP.astype(np.uint16) * 257  # 0..65535
FILES = {
    "16 bits.png": (SIXTEEN, {}, GREY),
    "16 bits.tif": (SIXTEEN, {}, GREY),
    "floats from 0 to 1.tif": ((RAMP / 255).astype(np.float32), {}, GREY),
    "zero is white.tif": (SIXTEEN, {"tiffinfo": {262: 0}}, 255 - GREY),
    "damaged profile.png": (RAMP, {"icc_profile": b"no profile"}, GREY),
    "several images.gif": (RAMP, {"save_all": True}, GREY),
    "several images.png": (RAMP, {"save_all": True}, GREY),
    "several images.webp": (RAMP, {"save_all": True, "lossless": True}, GREY),
    "several images.tif": (RAMP, {"save_all": True}, GREY),
}


@pytest.mark.parametrize("name", FILES)
def test_values_of_files(tmp_path, name):
    """Check that sixteen bits are scaled, not clipped.

    If a file has several images, only the first counts.
    """
    values, options, expected = FILES[name]
    if "save_all" in options:
        options = {**options, "append_images": [Image.fromarray(255 - RAMP)]}
    Image.fromarray(values).save(tmp_path / name, **options)
    assert (np.asarray(open_rgb(tmp_path / name, "a")) == expected).all()


def test_twelve_bits_of_a_tiff_are_scaled_as_twelve(tmp_path):
    """Check a file that is made of a few tags, because Pillow writes no twelve bits.

    It has 2 x 1 pixels, 0xfff and 0x800, in three bytes.
    """
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 12) + b"\xff\xf8\x00\0"
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    (tmp_path / "12.tif").write_bytes(head + directory)
    assert np.asarray(open_rgb(tmp_path / "12.tif", "12"))[0, :, 0].tolist() == [255, 128]


def tiff(values):
    """Return a function that saves these values as a TIFF."""
    return lambda path: Image.fromarray(values).save(path, "TIFF")


def file_of(content):
    """Return a function that writes these bytes."""
    return lambda path: path.write_bytes(content)


def leave_out(path):
    """Write no file."""


def cut_in_half(path):
    save(path, 64, 64)
    cut(path, path.stat().st_size // 2)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


BROKEN = {  # a function that makes the file, and the message
    "missing": (leave_out, "there is no file"),
    "truncated": (cut_in_half, "can't be decoded"),
    "empty": (file_of(b""), "the file is empty"),
    "text": (file_of(b"<html>404</html>"), "is no image"),
    "folder": (Path.mkdir, "no regular file"),
    # Pillow gives PostScript to Ghostscript, which runs it.
    "PostScript": (file_of(POSTSCRIPT), "is no image, or one of a kind that isn't read"),
    # Scaled as 16 bits, or clipped, numbers of unknown range would be black or white without a
    # word.
    "floats from 0 to 255": (tiff(RAMP.astype(np.float32)), "go from 0 to 255"),
    "floats below 0": (tiff((RAMP / 255 - 0.5).astype(np.float32)), "from -0.5 to 0.5"),
    "floats with NaN": (tiff(np.full((2, 2), np.nan, np.float32)), "nan"),
    "32 bits": (tiff(RAMP.astype(np.int32)), "32 bits"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_unreadable_file_is_a_bad_image(tmp_path, kind, suffix):
    path = tmp_path / f"bad.{suffix}"
    make, message = BROKEN[kind]
    make(path)
    with pytest.raises(BadImage, match=message) as caught:
        open_rgb(path, "bad")
    assert caught.value.image_id == "bad"
    assert caught.value.status == "bad_image"


# Pillow warns beyond its limit, and raises beyond twice the limit.
@pytest.mark.parametrize("limit", [40, 90])
def test_decompression_bomb_is_a_bad_image(tmp_path, monkeypatch, limit):
    Image.new("RGB", (10, 10)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(BadImage, match="pixels"):
        open_rgb(tmp_path / "bomb.png", "bomb")


def test_hash_depends_on_content_order_and_absence(tmp_path):
    first = tmp_path / "a"
    second = tmp_path / "b"
    absent = tmp_path / "c"
    first.write_bytes(b"x")
    second.write_bytes(b"")
    hashes = {sha256(first, second), sha256(second, first), sha256(first), sha256(first, absent)}
    assert len(hashes) == 4


def smooth(path, width, height):
    """Save a photograph-like image: JPEG's scaled decoding of noise would be another image."""
    small = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=95)


@pytest.mark.parametrize(
    ("size", "least", "expected"),
    [
        ((401, 203), (100, 120), (201, 102)),
        ((400, 203), (100, 201), (400, 203)),
        ((900, 900), (10, 10), (113, 113)),
    ],
)
def test_the_decoder_gives_no_less_than_is_needed(tmp_path, size, least, expected):
    for suffix in ("jpg", "png"):
        smooth(tmp_path / f"a.{suffix}", *size)
        picture, stored, _ = open_scaled(tmp_path / f"a.{suffix}", "a", lambda height, width: least)
        assert picture.mode == "RGB"
        assert stored == size
        assert picture.size == (expected if suffix == "jpg" else size)


def test_all_but_the_pixels_stays_and_these_are_close(voc_root):
    root = voc_root / "VOCdevkit/VOC2012"
    smooth(root / "JPEGImages/2007_1.jpg", 403, 301)
    objects = [("dog", 1, 1, 100, 200), ("person", 110, 20, 400, 300)]
    xml(root / "Annotations/2007_1.xml", objects, 403, 301)
    mask = np.tile(np.arange(403, dtype=np.uint8) // 30, (301, 1))
    Image.fromarray(mask).save(root / "SegmentationClass/2007_1.png")
    dataset = load("voc", voc_root)

    plain = decode_image(Selected(dataset, range(3)), 0, SMALL)
    scaled = decode_image(Selected(dataset, range(3)), 0, SCALED)

    assert scaled.size == plain.size == (301, 403)
    assert scaled.label == plain.label
    assert scaled.problems == plain.problems
    for field in ("labels", "boxes", "mask"):
        assert torch.equal(getattr(scaled.annotation, field), getattr(plain.annotation, field))
    assert scaled.annotation.stored_pixel == plain.annotation.stored_pixel
    assert scaled.pixels.shape == plain.pixels.shape
    assert 0 < (scaled.pixels.float() - plain.pixels.float()).abs().mean() < 3

    # An image of 40 x 30 is enlarged, or taken as it is stored: there is nothing to scale.
    for index, resize in ((1, 40), (0, None)):
        plain = decode_image(dataset, index, replace(SMALL, resize=resize))
        scaled = decode_image(dataset, index, replace(SCALED, resize=resize))
        assert torch.equal(plain.pixels, scaled.pixels)


@pytest.mark.slow
def test_scaled_decoding_is_off_and_part_of_the_key():
    with composed(["experiment=quick", "data.size=1"]) as composition:
        settings = composition.job_settings()
    off = Job.of(settings)
    on = Job.of(settings.model_copy(update={"data": {**settings.data, "scaled_decoding": True}}))
    assert off.model.preprocessing.scaled_decoding is False
    assert on.model.preprocessing.scaled_decoding is True
    assert Keys(off).common != Keys(on).common


UP_TO_12_BITS = np.linspace(0, 4095, 48 * 32).reshape(32, 48).astype("u2")

UP_TO_16_BITS = np.linspace(0, 65535, 48 * 32).reshape(32, 48).astype("u2")


@pytest.mark.parametrize(
    ("values", "is_dark"),
    [
        (UP_TO_12_BITS, True),  # stored in 16
        (UP_TO_16_BITS, False),
        (np.tile(np.array([0, 1], "u1"), (32, 24)), True),  # a mask, or binarised
        (np.tile(np.array([0, 255], "u1"), (32, 24)), False),
        (np.zeros((32, 48), "u1"), False),  # black in any range
    ],
)
def test_a_picture_that_uses_the_lowest_values_alone_is_read_by_its_type_and_told(
    tmp_path, values, is_dark
):
    Image.fromarray(values).save(tmp_path / "a.png")
    sample = load("folder", tmp_path).read(0)
    grey = values >> 8 if values.dtype == np.uint16 else values
    assert np.array_equal(np.asarray(sample.image)[..., 0], grey)
    assert len(sample.problems) == is_dark
    assert all(problem.endswith(NEARLY_BLACK) for problem in sample.problems)


def test_floats_of_a_tiff_that_are_rounded_beyond_1_are_read(tmp_path):
    values = np.linspace(-1e-7, 1 + 1e-6, 48 * 32, dtype=np.float32).reshape(32, 48)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    image = np.asarray(load("folder", tmp_path).read(0).image)
    assert np.array_equal(image[..., 0], np.round(values.clip(0, 1) * 255))
