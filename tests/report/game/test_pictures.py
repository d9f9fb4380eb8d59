"""What a player sees: the highest heat and so much of it, each image once, by a balanced Latin square."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from axiom_bench.report.game_page import centred_blob, data_uri, latin_square, method_and_class, visible


def test_the_highest_fifth_is_visible():
    heat = np.arange(100.0).reshape(10, 10)
    assert (visible(heat, 0.2) == (heat >= 80)).all()


def test_of_equals_the_first_pixels_are_visible():
    assert (np.flatnonzero(visible(np.ones((10, 10)), 0.2)) == np.arange(20)).all()


def test_what_has_no_heat_stays_hidden():
    heat = np.zeros((10, 10))
    heat[3, 4] = 1
    heat[5, 5] = 1e-7  # rounding
    assert np.argwhere(visible(heat, 0.2)).tolist() == [[3, 4]]
    assert not visible(np.full((10, 10), np.nan), 0.2).any()


def test_the_blob_is_in_the_middle():
    mask = visible(centred_blob(40, 60), 0.2)
    assert mask.mean() == pytest.approx(0.2)
    assert (mask == mask[::-1]).mean() > 0.99
    assert (mask == mask[:, ::-1]).mean() > 0.99
    assert mask[20, 30]
    assert not mask[0].any()


def test_hidden_pixels_are_transparent():
    mask = np.zeros((32, 32), bool)
    mask[:, 16:] = True
    uri = data_uri(np.full((32, 32, 3), 200, np.uint8), mask)
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    alpha = np.asarray(picture)[..., 3]
    assert picture.size == (320, 320)
    assert (alpha[:, :150] == 0).all()
    assert (alpha[:, 170:] == 255).all()


@pytest.mark.parametrize(("images", "methods"), [(20, 8), (16, 8), (5, 3), (1, 2), (40, 1)])
def test_each_image_is_seen_in_every_cell_once_by_as_many_players(images: int, methods: int):
    square = latin_square(images, 2 * methods, seed=3)
    assert square.shape == (2 * methods, images)
    for column in square.T:
        assert sorted(column) == list(range(2 * methods))


@pytest.mark.parametrize(("images", "methods"), [(20, 8), (16, 8), (5, 3), (40, 1)])
def test_each_player_sees_cells_and_methods_equally_often(images: int, methods: int):
    for row in latin_square(images, 2 * methods, seed=3):
        cells = np.bincount(row, minlength=2 * methods)
        of_methods = np.bincount([method_and_class(int(cell), methods)[0] for cell in row], minlength=methods)
        assert np.ptp(cells) <= 1
        assert np.ptp(of_methods) <= 1


def test_a_cell_is_each_pair_of_method_and_class_once():
    pairs = [method_and_class(cell, 3) for cell in range(6)]
    assert sorted(pairs) == [(method, of_class) for method in range(3) for of_class in range(2)]


def test_the_seed_decides_the_square():
    assert (latin_square(20, 8, 1) == latin_square(20, 8, 1)).all()
    assert (latin_square(20, 8, 1) != latin_square(20, 8, 2)).any()
