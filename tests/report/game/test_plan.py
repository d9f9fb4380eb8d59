"""The Latin square: each image once for a player, every cell once over the players, everything balanced."""

from __future__ import annotations

import numpy as np
import pytest

from axiom_bench.report.game.plan import latin_square, method_and_class


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
