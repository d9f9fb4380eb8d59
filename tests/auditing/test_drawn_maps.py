"""Maps from files: numbers, grey pictures, and pictures whose colour map is inverted."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from axiom_bench.auditing.drawn_maps import (
    ERROR,
    OPENCV_JET,
    colour_table,
    invert,
    read_map,
)
from axiom_bench.errors import BenchError


@pytest.fixture(scope="module")
def values():
    """A map of the shape (9, 14), whose largest value is 1."""
    drawn = np.random.default_rng(0).random((9, 14))
    return drawn / drawn.max()


def opencv_jet(values):
    """The map as `cv2.applyColorMap(np.uint8(255 * map), cv2.COLORMAP_JET)` draws it, in RGB."""
    return colour_table(OPENCV_JET)[(255 * values).astype(np.uint8)].astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_numbers_keep_their_precision(values, dtype, tmp_path):
    path = tmp_path / "map.npy"
    np.save(path, values.astype(dtype)[None, :, :, None])
    read = read_map(path)
    np.testing.assert_array_equal(read.values, values.astype(dtype))
    assert read.values.dtype.itemsize == np.dtype(dtype).itemsize
    assert not read.is_drawn


def test_a_tiff_of_floats_has_numbers(values, tmp_path):
    path = tmp_path / "map.tiff"
    Image.fromarray(values.astype(np.float32)).save(path)
    read = read_map(path)
    np.testing.assert_array_equal(read.values, values.astype(np.float32))
    assert not read.is_drawn


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_levels_are_shares_of_white(values, bits, tmp_path):
    path = tmp_path / "map.png"
    white = 2**bits - 1
    Image.fromarray((white * values).astype(f"uint{bits}")).save(path)
    read = read_map(path)
    assert read.source == "a grey picture"
    assert np.abs(read.values - values).max() <= read.error == 1 / white


@pytest.mark.parametrize("name", ["viridis", "jet", "turbo", "inferno", "RdBu", "hot"])
def test_a_colour_map_of_matplotlib_is_inverted(name, values, tmp_path):
    path = tmp_path / "map.png"
    Image.fromarray(colormaps[name](values, bytes=True)).save(path)
    read = read_map(path)
    assert read.colours == name
    assert np.abs(read.values - values).max() <= read.error == ERROR


def test_jet_of_opencv_is_told_from_that_of_matplotlib(values):
    read = invert(opencv_jet(values), Path("map.png"))
    assert read.colours == OPENCV_JET
    assert np.abs(read.values - values).max() <= ERROR


def test_colours_of_no_colour_map_are_refused(values):
    photograph = np.random.default_rng(2).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    with pytest.raises(BenchError, match="colours of no colour map of matplotlib"):
        invert(photograph, Path("map.png"))


def test_a_map_over_its_image_is_refused(values):
    image = np.random.default_rng(1).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    drawn = 0.5 * opencv_jet(values) + 0.5 * image
    with pytest.raises(BenchError, match="or the map without the image behind it"):
        invert(drawn.round().astype(np.uint8), Path("map.png"))


def damaged_npy(path, content):
    np.save(path, content, allow_pickle=True)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.full((2, 2), np.nan), "has 4 NaN or infinite values of 4"),
        (np.zeros((2, 3, 4)), r"has the shape \(2, 3, 4\); save one map"),
        (np.zeros(4), r"has the shape \(4,\); save one map"),
        (np.zeros((2, 2), complex), "holds complex128; save a map of real numbers"),
        (np.array([["a"]]), "holds <U1; save a map of real numbers"),
        (np.array([[{}]]), "Python objects, which are never loaded"),
    ],
)
def test_arrays_that_are_no_map_are_refused(content, message, tmp_path):
    with pytest.raises(BenchError, match=message):
        read_map(damaged_npy(tmp_path / "map.npy", content))


def test_a_header_that_claims_more_than_the_file_has_is_refused(tmp_path):
    path = tmp_path / "map.npy"
    np.save(path, np.zeros((4, 4)))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(4, 4), }        ", b"(40000, 40000), }"))
    with pytest.raises(BenchError, match=r"map.npy can't be read: .*; save the map by np.save"):
        read_map(path)


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    path = tmp_path / "map.png"
    path.write_text("no picture")
    with pytest.raises(BenchError, match=r"The map .*map.png: can't be decoded"):
        read_map(path)
