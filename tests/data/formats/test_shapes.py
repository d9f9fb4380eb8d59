"""The pixels of polygons, compared with a test of every pixel's centre."""

import numpy as np
import pytest

from axiom_bench.data.formats.shapes import polygon_pixels

POLYGONS = {  # no outline goes through the centre of a pixel
    "rectangle": [(2, 1), (6, 1), (6, 4), (2, 4)],
    "triangle": [(0.2, 0.3), (7.9, 2.1), (3.3, 5.7)],
    "concave": [(0, 0), (8, 0), (8, 6), (4.1, 2.3), (0, 6)],
    "crosses itself": [(0, 0), (8, 6), (8, 0), (0, 6)],
    "beyond the image": [(-3, -2), (20, 3), (5, 30)],
    "a line": [(1, 1.2), (5, 5.2), (1, 1.2)],
}


def is_inside(x, y, polygon):
    """Return whether the outline goes around a point an odd number of times."""
    corners = np.array([complex(*corner) for corner in polygon]) - complex(x, y)
    turns = np.angle(np.roll(corners, -1) / corners).sum() / (2 * np.pi)
    return round(turns) % 2 == 1


@pytest.mark.parametrize("polygon", POLYGONS.values(), ids=POLYGONS)
def test_pixels_whose_centre_is_inside(polygon):
    pixels = polygon_pixels(polygon, (8, 6))
    for row in range(6):
        for column in range(8):
            assert pixels[row, column] == is_inside(column + 0.5, row + 0.5, polygon)


def test_a_rectangle_has_the_pixels_of_its_box():
    expected = np.zeros((6, 8), dtype=bool)
    expected[1:4, 2:6] = True
    assert np.array_equal(polygon_pixels(POLYGONS["rectangle"], (8, 6)), expected)
