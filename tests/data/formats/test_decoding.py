"""Decoding of all image modes to RGB, whole or scaled; an unreadable file raises BadImage and
nothing else.
"""

import json
import struct
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from axiom_bench.data.base import BadImage, Selected
from axiom_bench.data.formats.decoding import NEARLY_BLACK, as_rgb, open_rgb, open_scaled, sha256
from axiom_bench.data.loading import decoded
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.job import Job
from axiom_bench.run.keys import Keys
from tests.data.builders import cut, load, save, write_tar, xml

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
GREY = RAMP[..., None]  # what a reader makes of it, in three channels
SMALL = Preprocessing(40, 32, (0.5,) * 3, (0.25,) * 3)
SCALED = replace(SMALL, scaled_decoding=True)


def image(mode, *pixels):
    made = Image.new(mode, (len(pixels), 1))
    made.putdata(pixels)
    return made


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
    assert abs(np.asarray(converted).astype(int) - np.array(expected)).max() <= (
        mode == "transparent is white"
    )


def test_cmyk_is_converted(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    red = np.asarray(open_rgb(tmp_path / "red.jpg", "red")).astype(int)
    assert abs(red - [255, 0, 0]).max() <= 3  # JPEG rounds


# PIL's transpositions that store a picture so that an orientation undoes them
STORED = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}


def store(path, image, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = (
        image
        if STORED[orientation] is None
        else image.transpose(Image.Transpose(STORED[orientation]))
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    turned.save(path, exif=exif, quality=95)
    return turned


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_photograph_is_turned_as_its_exif_says(tmp_path, suffix, orientation):
    """Eight ways to store one picture; scaled decoding asks for what the upright picture needs."""
    image = Image.fromarray(np.add.outer(np.arange(80), np.arange(120)).astype(np.uint8)).convert(
        "RGB"
    )
    stored, path = (
        store(tmp_path / f"photos/a.{suffix}", image, orientation),
        tmp_path / f"photos/a.{suffix}",
    )
    picture, size, turned = open_scaled(path, "a", None, upright=True)
    assert (size, turned) == ((120, 80), None if orientation == 1 else True)
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(image)).max() <= 4
    small, size, _ = open_scaled(
        path, "a", lambda height, width: (height // 2, width // 2), upright=True
    )
    assert (size, small.size) == ((120, 80), (60, 40) if suffix == "jpg" else (120, 80))
    plain, size, turned = open_scaled(path, "a", None)
    assert (plain.size, size, turned) == (
        stored.size,
        stored.size,
        None if orientation == 1 else False,
    )
    sample = load("folder", tmp_path / "photos").read(0)
    assert (sample.size, sample.turned) == ((80, 120), None if orientation == 1 else True)
    assert np.array_equal(sample.image, picture)


def test_a_tiff_is_turned_once_and_damaged_exif_turns_nothing(tmp_path):
    """A TIFF's orientation belongs to the format: Pillow applies it, also where annotations are in
    stored pixels.
    """
    image = Image.fromarray(RAMP[:8])
    store(tmp_path / "a.png", image, 6)
    store(tmp_path / "a.tif", image, 6)
    upright, *tiffs = (open_scaled(tmp_path / name, "a", None, way)
                       for name, way in (("a.png", True), ("a.tif", True), ("a.tif", False)))  # fmt: skip
    for picture, _, turned in tiffs:
        assert (np.array_equal(picture, upright[0]), turned) == (True, None)
    image.save(tmp_path / "b.png", exif=b"Exif\0\0II*\0" + bytes([255]) * 40)
    picture, _, turned = open_scaled(tmp_path / "b.png", "b", None, upright=True)
    assert (np.array_equal(picture, image.convert("RGB")), turned) == (True, None)


@pytest.mark.parametrize("annotated", [False, True])
@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_only_images_without_boxes_are_turned(tmp_path, kind, annotated):
    store(tmp_path / "a.png", Image.new("RGB", (30, 10)), 6)
    content, box = (tmp_path / "a.png").read_bytes(), [0, 0, 5, 5]
    if kind == "webdataset":
        note = json.dumps({"label": 0, "boxes": [box] if annotated else []}).encode()
        write_tar(tmp_path / "a.tar", [("a.png", content), ("a.json", note)])
        dataset = load(kind, tmp_path / "a.tar")
    else:
        boxes = pa.array([[box] if annotated else []], pa.list_(pa.list_(pa.float64())))
        pq.write_table(
            pa.table({"image": [content], "label": [0], "boxes": boxes}), tmp_path / "a.parquet"
        )
        dataset = load(kind, tmp_path / "a.parquet", boxes="boxes")
    sample = dataset.read(0)
    assert (sample.size, sample.turned) == (((30, 10), False) if annotated else ((10, 30), True))


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
    """Sixteen bits are scaled, not clipped; of several images the first counts."""
    values, options, expected = FILES[name]
    if "save_all" in options:
        options = {**options, "append_images": [Image.fromarray(255 - RAMP)]}
    Image.fromarray(values).save(tmp_path / name, **options)
    assert (np.asarray(open_rgb(tmp_path / name, "a")) == expected).all()


def test_twelve_bits_of_a_tiff_are_scaled_as_twelve(tmp_path):
    """Pillow writes none, so the file is made of a few tags: 2 x 1 pixels, 0xfff and 0x800, in
    three bytes.
    """
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    content = b"II*\0" + struct.pack("<I", 12) + b"\xff\xf8\x00\0"
    (tmp_path / "12.tif").write_bytes(content + struct.pack("<H", len(tags)) + entries + bytes(4))
    assert np.asarray(open_rgb(tmp_path / "12.tif", "12"))[0, :, 0].tolist() == [255, 128]


def tiff(values):
    return lambda path: Image.fromarray(values).save(path, "TIFF")


BROKEN = {
    "missing": (lambda path: None, "there is no file"),
    "truncated": (
        lambda path: cut(save(path, 64, 64), path.stat().st_size // 2),
        "can't be decoded",
    ),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "text": (lambda path: path.write_text("<html>404</html>"), "is no image"),
    "folder": (lambda path: path.mkdir(), "no regular file"),
    # Pillow gives PostScript to Ghostscript, which runs it.
    "PostScript": (
        lambda path: path.write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
        ),
        "is no image, or one of a kind that isn't read",
    ),
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
    path, (damage, message) = tmp_path / f"bad.{suffix}", BROKEN[kind]
    damage(path)
    with pytest.raises(BadImage, match=message) as caught:
        open_rgb(path, "bad")
    assert (caught.value.image_id, caught.value.status) == ("bad", "bad_image")


@pytest.mark.parametrize(
    "limit", [40, 90]
)  # Pillow warns beyond its limit, and raises beyond twice the limit
def test_decompression_bomb_is_a_bad_image(tmp_path, monkeypatch, limit):
    Image.new("RGB", (10, 10)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(BadImage, match="pixels"):
        open_rgb(tmp_path / "bomb.png", "bomb")


def test_hash_depends_on_content_order_and_absence(tmp_path):
    first, second, absent = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    first.write_bytes(b"x")
    second.write_bytes(b"")
    assert (
        len({sha256(first, second), sha256(second, first), sha256(first), sha256(first, absent)})
        == 4
    )


def smooth(path, width, height):
    """A photograph-like image: JPEG's scaled decoding of noise would be another image."""
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
        assert (picture.mode, stored, picture.size) == (
            "RGB",
            size,
            expected if suffix == "jpg" else size,
        )


def test_all_but_the_pixels_stays_and_these_are_close(voc_root):
    root = voc_root / "VOCdevkit/VOC2012"
    smooth(root / "JPEGImages/2007_1.jpg", 403, 301)
    xml(
        root / "Annotations/2007_1.xml",
        [("dog", 1, 1, 100, 200), ("person", 110, 20, 400, 300)],
        403,
        301,
    )
    Image.fromarray(np.tile(np.arange(403, dtype=np.uint8) // 30, (301, 1))).save(
        root / "SegmentationClass/2007_1.png"
    )
    dataset = load("voc", voc_root)
    plain, scaled = (
        decoded(Selected(dataset, range(3)), 0, preprocessing) for preprocessing in (SMALL, SCALED)
    )
    assert scaled.size == plain.size == (301, 403)
    assert (scaled.label, scaled.problems) == (plain.label, plain.problems)
    for field in ("labels", "boxes", "mask"):
        assert torch.equal(getattr(scaled.annotation, field), getattr(plain.annotation, field))
    assert scaled.annotation.stored_pixel == plain.annotation.stored_pixel
    assert scaled.pixels.shape == plain.pixels.shape
    assert 0 < (scaled.pixels.float() - plain.pixels.float()).abs().mean() < 3
    for index, resize in ((1, 40), (0, None)):  # 40 x 30 is enlarged; as stored
        pair = (
            decoded(dataset, index, replace(each, resize=resize)).pixels for each in (SMALL, SCALED)
        )
        assert torch.equal(*pair)


@pytest.mark.slow
def test_scaled_decoding_is_off_and_part_of_the_key():
    with composed(["experiment=quick", "data.size=1"]) as composition:
        settings = composition.job_settings()
    off = Job.of(settings)
    on = Job.of(settings.model_copy(update={"data": {**settings.data, "scaled_decoding": True}}))
    assert (off.model.preprocessing.scaled_decoding, on.model.preprocessing.scaled_decoding) == (
        False,
        True,
    )
    assert Keys(off).common != Keys(on).common


@pytest.mark.parametrize(
    ("values", "is_dark"),
    [
        (
            np.linspace(0, 4095, 48 * 32).reshape(32, 48).astype("u2"),
            True,
        ),  # 12 bits in a file of 16
        (np.linspace(0, 65535, 48 * 32).reshape(32, 48).astype("u2"), False),
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
    assert [problem.endswith(NEARLY_BLACK) for problem in sample.problems] == [True] * is_dark


def test_floats_of_a_tiff_that_are_rounded_beyond_1_are_read(tmp_path):
    values = np.linspace(-1e-7, 1 + 1e-6, 48 * 32, dtype=np.float32).reshape(32, 48)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert np.array_equal(
        np.asarray(load("folder", tmp_path).read(0).image)[..., 0],
        np.round(values.clip(0, 1) * 255),
    )
