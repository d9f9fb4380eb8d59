"""Decoding of all image modes to RGB; an unreadable file raises BadImage and nothing else."""

import struct

import numpy as np
import pytest
from PIL import Image

from axiom_bench.data.base import BadImage
from axiom_bench.data.formats.decoding import as_rgb, open_rgb, sha256

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def rgb(image):
    converted = as_rgb(image)
    assert converted.mode == "RGB"
    return np.asarray(converted)


def test_grey_is_repeated_in_all_channels():
    assert (rgb(Image.fromarray(RAMP)) == RAMP[..., None]).all()


def test_one_bit_images():
    assert set(np.unique(rgb(Image.fromarray(RAMP > 100)))) == {0, 255}


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix):
    values = RAMP.astype(np.uint16) * 257  # 0..65535
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    assert (np.asarray(open_rgb(tmp_path / f"deep.{suffix}", "deep")) == RAMP[..., None]).all()


def test_cmyk_full_inks_are_their_colours():
    image = Image.new("CMYK", (2, 1))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 0))
    assert rgb(image).tolist() == [[[255, 255, 255], [0, 255, 255]]]


def test_cmyk_jpeg_is_read(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    red = np.asarray(open_rgb(tmp_path / "red.jpg", "red")).astype(int)
    assert abs(red - [255, 0, 0]).max() <= 3  # JPEG rounds


def test_transparent_pixels_are_white():
    image = Image.new("RGBA", (3, 1))
    for column, alpha in enumerate((255, 0, 127)):
        image.putpixel((column, 0), (200, 0, 0, alpha))
    opaque, clear, half = rgb(image)[0].astype(int).tolist()
    assert opaque == [200, 0, 0]
    assert clear == [255, 255, 255]
    assert abs(np.array(half) - [228, 128, 128]).max() <= 1


def test_palette_images_become_colours():
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert rgb(image).tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_orientation_in_exif_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees": annotations are in pixels as stored
    Image.new("RGB", (30, 10)).save(tmp_path / "turned.jpg", exif=exif)
    assert open_rgb(tmp_path / "turned.jpg", "turned").size == (30, 10)


def truncated(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BROKEN = {
    "missing": lambda path: None,
    "truncated": truncated,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("<html>404</html>"),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_unreadable_file_is_a_bad_image(tmp_path, kind, suffix):
    path = tmp_path / f"bad.{suffix}"
    BROKEN[kind](path)
    with pytest.raises(BadImage) as caught:
        open_rgb(path, "bad")
    assert (caught.value.image_id, caught.value.status) == ("bad", "bad_image")
    assert caught.value.message


@pytest.mark.parametrize("limit", [40, 90])  # Pillow warns beyond its limit, and raises beyond twice the limit
def test_decompression_bomb_is_a_bad_image(tmp_path, monkeypatch, limit):
    Image.new("RGB", (10, 10)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(BadImage, match="pixels"):
        open_rgb(tmp_path / "bomb.png", "bomb")


def tiff(path, values, **options):
    Image.fromarray(values).save(path, **options)
    return path


def test_floats_from_0_to_1_are_scaled(tmp_path):
    path = tiff(tmp_path / "floats.tif", (RAMP / 255).astype(np.float32))
    assert (np.asarray(open_rgb(path, "floats")) == RAMP[..., None]).all()


UNKNOWN_RANGES = {
    "floats from 0 to 255": (RAMP.astype(np.float32), "go from 0 to 255"),
    "floats below 0": ((RAMP / 255 - 0.5).astype(np.float32), "from -0.5 to 0.5"),
    "floats with NaN": (np.full((2, 2), np.nan, np.float32), "nan"),
    "32 bits": (RAMP.astype(np.int32), "32 bits"),
}


@pytest.mark.parametrize("kind", UNKNOWN_RANGES)
def test_numbers_of_unknown_range_are_a_bad_image(tmp_path, kind):
    """Scaled as 16 bits, or clipped, they would be black or white without a word."""
    values, reason = UNKNOWN_RANGES[kind]
    with pytest.raises(BadImage, match=reason):
        open_rgb(tiff(tmp_path / "values.tif", values), "values")


def test_twelve_bits_of_a_tiff_are_scaled_as_twelve(tmp_path):
    """Pillow writes none, so the file is made of a few tags: 2 x 1 pixels, 0xfff and 0x800, in three bytes."""
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    content = b"II*\0" + struct.pack("<I", 12) + b"\xff\xf8\x00\0"
    (tmp_path / "12.tif").write_bytes(content + struct.pack("<H", len(tags)) + entries + bytes(4))
    assert np.asarray(open_rgb(tmp_path / "12.tif", "12"))[0, :, 0].tolist() == [255, 128]


def test_a_tiff_whose_zero_is_white(tmp_path):
    path = tiff(tmp_path / "negative.tif", RAMP.astype(np.uint16) * 257, tiffinfo={262: 0})
    assert (np.asarray(open_rgb(path, "negative")) == 255 - RAMP[..., None]).all()


def test_a_file_of_another_program_is_no_image(tmp_path):
    """Pillow gives PostScript to Ghostscript, which runs it."""
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(BadImage, match="is no image, or one of a kind that isn't read"):
        open_rgb(tmp_path / "a.jpg", "a")


def test_damaged_profiles_do_not_matter(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png", icc_profile=b"no profile")
    assert (np.asarray(open_rgb(tmp_path / "a.png", "a")) == RAMP[..., None]).all()


def test_the_first_of_several_images_counts(tmp_path):
    frames = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)]
    for suffix in ("gif", "png", "webp", "tif"):
        options = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
        assert (np.asarray(open_rgb(tmp_path / f"a.{suffix}", "a")) == RAMP[..., None]).all()


def test_hash_depends_on_content_order_and_absence(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"x")
    second.write_bytes(b"")
    pictures = [
        sha256(first, second),
        sha256(second, first),
        sha256(first),
        sha256(first, tmp_path / "c"),
        sha256(first, None),
    ]
    assert pictures[3] == pictures[4]
    assert len(set(pictures[:4])) == 4
