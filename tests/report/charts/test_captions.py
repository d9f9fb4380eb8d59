"""A caption's counts tell images from rows: an image has a row for each class that is explained."""

from __future__ import annotations

import pandas as pd

from axiom_bench.report.charts.drawing import counts_by, counts_of

ROWS = pd.DataFrame({"image_id": list("aaabcc"), "method": ["x", "x", "y", "x", "x", "y"]})


def test_images_and_rows() -> None:
    assert counts_of(ROWS) == "n = 3 images, 6 rows"
    assert counts_of(ROWS[ROWS["image_id"] == "b"]) == "n = 1 image, 1 row"


def test_the_fewest_and_the_most_of_the_groups() -> None:
    assert counts_by(ROWS, ["method"]) == "n = 2 to 3 images, 2 to 4 rows"
