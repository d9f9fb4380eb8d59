"""Decoding of all image modes to RGB; an unreadable file raises BadImage and nothing else."""

import numpy as np
import pytest
from PIL import Image

from axiom_bench.data.base import BadImage
from axiom_bench.data.decoding import as_rgb, open_rgb, sha256

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
